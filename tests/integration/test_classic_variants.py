"""Variants of the classic downgrade with real TensorFlow, and the naive ways, which break.

One machine's story in order. Each variant installs a TensorFlow of its own, which takes minutes in all. CI has the same
playbooks over small wheels in test_additions.py, and the same damage in tests/component/environment.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Iterator

import jsonschema
import pytest

from tests.integration.test_classic_cases import CLASSIC_PINS, REPORT_SCHEMA
from tests.needs import python_of
from tests.playbooks import Site

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With the three pins applied."""
    python_of("3.8", "3.9", "3.10")
    site = Site(tmp_path_factory.mktemp("workstation"))
    requirements = site.path / "classic.txt"
    requirements.write_text(CLASSIC_PINS)
    built = site.play("workstation", tensorflow_version="2.8.0", tensorflow_requirements=str(requirements))
    assert built.code == 0, built.output
    yield site
    shutil.rmtree(site.path)  # several gigabytes


def test_another_lock_for_one_name_and_back(site: Site) -> None:
    other = site.path / "other.txt"
    other.write_text(CLASSIC_PINS.replace("1.23.5", "1.22.4"))
    name, program = "tensorflow-2.8.0", "import numpy, tensorflow; print(numpy.__version__)"
    wish = {"tensorflow_version": "2.8.0", "tensorflow_requirements": str(other)}
    refused = site.play("workstation", **wish)
    assert refused.code != 0 and f"was applied with {site.path}/classic.txt" in " ".join(refused.output.split())
    changed = site.play("workstation", tensorflow_environment=name, **wish)
    assert changed.code == 0, changed.output
    assert site.python(name, program).stdout.strip() == "1.22.4"
    checked = site.play("rollback", "--check", "--diff")
    assert (checked.code, checked.counts["changed"]) == (0, 1), checked.output
    assert site.python(name, program).stdout.strip() == "1.22.4"
    rolled_back = site.play("rollback")
    assert (rolled_back.code, rolled_back.counts["changed"]) == (0, 1), rolled_back.output
    assert rolled_back.report["succeeded"]
    jsonschema.validate(rolled_back.report, REPORT_SCHEMA)
    assert site.python(name, program).stdout.strip() == "1.23.5"


def test_tensorflow_gpu_by_its_old_name(site: Site) -> None:
    requirements = site.path / "gpu.txt"
    requirements.write_text(CLASSIC_PINS.replace("tensorflow==", "tensorflow-gpu=="))
    run = site.play("workstation", tensorflow_requirements=str(requirements), tensorflow_environment="by-old-name")
    assert run.code == 0, run.output
    assert run.report["plan"]["release"] == "2.8.0"
    assert site.imports("by-old-name") == "2.8.0"


def test_remove_takes_one_environment(site: Site) -> None:
    checked = site.play("remove", "--check", tensorflow_environment="by-old-name")
    assert (checked.code, checked.counts["changed"]) == (0, 1)
    removed = site.play("remove", tensorflow_environment="by-old-name")
    assert (removed.code, removed.counts["changed"]) == (0, 1)
    assert not os.path.lexists(site.root / "by-old-name")
    assert not [entry for entry in os.listdir(site.root / ".builds") if entry.startswith("by-old-name")]
    assert site.imports("tensorflow-2.8.0") == "2.8.0"
    assert "Set tensorflow_environment to the name" in site.play("remove").output


class TestNaiveWays:
    """What pip does with the same wishes on the same day. uv brings pip: a distribution's Python may have none."""

    def test_the_three_pins_alone_install_and_do_not_import(self, site: Site, uv: str) -> None:
        interpreter = os.path.realpath(site.root / "tensorflow-2.8.0" / "bin" / "python")
        venv = site.path / "naive"
        subprocess.run([uv, "venv", "--quiet", "--seed", "--python", interpreter, venv], check=True)
        pip = [venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "-q", *CLASSIC_PINS.split()], check=True)
        assert subprocess.run([*pip, "check"]).returncode == 0, "pip is content"
        done = subprocess.run([venv / "bin" / "python", "-c", "import tensorflow"], capture_output=True, text=True)
        assert done.returncode != 0
        assert "Descriptors cannot be created directly" in done.stderr
        shutil.rmtree(venv)

    def test_pip_into_the_2_10_environment_destroys_it(self, site: Site, uv: str) -> None:
        wish = {"tensorflow_version": "2.10.0", "tensorflow_environment": "sacrifice"}
        site.play("workstation", **wish)
        assert site.imports("sacrifice") == "2.10.0"
        python = site.root / "sacrifice" / "bin" / "python"
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "pip"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "tensorflow==2.8.0"], check=True)
        # Who needed 2.10 has 2.8 now, and two distributions own the same files.
        assert site.imports("sacrifice") == "2.8.0"
        site_packages = next((site.root / "sacrifice" / "lib").glob("python3.*/site-packages"))
        owners: dict[str, set[str]] = {}
        for record in site_packages.glob("*estimator*.dist-info/RECORD"):
            for row in csv.reader(record.read_text().splitlines()):
                owners.setdefault(row[0], set()).add(record.parent.name)
        assert any(len(names) == 2 for names in owners.values())
        # Ours is not fooled by either, and mends it once that is said.
        seen = site.play("verify", **wish)
        assert seen.code != 0
        assert "tensorflow is 2.8.0, not 2.10.0" in seen.output
        assert site.play("workstation", **wish).code != 0
        assert site.imports("sacrifice") == "2.8.0"
        site.play("workstation", tensorflow_additions="drop", **wish)
        assert site.imports("sacrifice") == "2.10.0"
