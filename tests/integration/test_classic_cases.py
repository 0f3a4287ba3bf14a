"""The downgrade that people come for, with real TensorFlow, by the playbooks; and the naive ways, which break.

One machine's story in order: each test goes on from what the one before left.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from ansible.module_utils.tensorflow_stack.records.lockfile import parse_lock

from tests.needs import python_of
from tests.playbooks import REPOSITORY, Site

pytestmark = pytest.mark.integration

CLASSIC_PINS = "tensorflow==2.8.0\nnumpy==1.23.5\nkeras==2.8.0\n"
REPORT_SCHEMA = json.loads((REPOSITORY / "roles/stack_report/files/report.schema.json").read_text())
# Nothing listens there: a run that asks the network fails.
NO_NETWORK = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    python_of("3.8", "3.9", "3.10")
    path = tmp_path_factory.mktemp("workstation")
    yield Site(path)
    shutil.rmtree(path)  # several gigabytes


@pytest.fixture(scope="module")
def classic(site: Site) -> str:
    requirements = site.path / "classic.txt"
    requirements.write_text(CLASSIC_PINS)
    return str(requirements)


def tree_digest(directory: Path) -> str:
    """Of every file's name, kind, mode and content, and every link's target."""
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(directory):
        folders.sort()
        for name in sorted([*files, *(f for f in folders if os.path.islink(os.path.join(folder, f)))]):
            path = Path(folder, name)
            content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            digest.update(f"{path.relative_to(directory)}\0{path.lstat().st_mode}\0".encode())
            digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


@pytest.mark.oldest_core
def test_2_10_is_there_first(site: Site) -> None:
    run = site.play("workstation", tensorflow_version="2.10.0")
    assert run.code == 0, run.output
    assert site.imports("tensorflow-2.10.0") == "2.10.0"


@pytest.mark.oldest_core
def test_check_mode_says_what_the_real_run_then_does(site: Site, classic: str) -> None:
    run = site.play("workstation", "--check", "--diff", tensorflow_version="2.8.0", tensorflow_requirements=classic)
    assert run.code == 0, run.output
    assert "+numpy==1.23.5\n" in run.output
    assert not (site.path / "classic.locks").exists()
    assert not os.path.lexists(site.root / "tensorflow-2.8.0")
    assert run.counts["changed"] == 2, "the lock and the environment"


@pytest.mark.oldest_core
def test_the_three_pins_give_a_working_environment_beside_the_old_one(site: Site, classic: str) -> None:
    live = site.root / "tensorflow-2.10.0"
    before = os.readlink(live), tree_digest(live.resolve())
    run = site.play("workstation", tensorflow_version="2.8.0", tensorflow_requirements=classic)
    assert run.code == 0, run.output
    assert run.counts["changed"] == 2, "the lock and the environment"

    jsonschema.validate(run.report, REPORT_SCHEMA)
    assert run.report["succeeded"]
    assert run.report["check"]["verdict"] == run.report["plan"]["verdict"] == "cpu_only_no_gpu"
    assert run.report["check"]["report"]["gpu"] == "absent"
    steps = {step["component"]: step for step in run.report["plan"]["steps"]}
    assert (steps["environment"]["action"], steps["environment"]["direction"]) == ("install", "down")
    assert {steps[name]["action"] for name in ("driver", "cuda", "cudnn")} == {"skip"}

    program = "import tensorflow as tf, numpy, keras; print(tf.__version__, numpy.__version__, keras.__version__)"
    assert site.python("tensorflow-2.8.0", program).stdout.strip() == "2.8.0 1.23.5 2.8.0"

    assert (os.readlink(live), tree_digest(live.resolve())) == before, "unchanged to the byte"
    assert site.imports("tensorflow-2.10.0") == "2.10.0"


@pytest.mark.oldest_core
def test_the_lock_says_what_our_constraints_supplied(site: Site, classic: str) -> None:
    (path,) = (site.path / "classic.locks" / "tensorflow-2.8.0").iterdir()
    lock = parse_lock(path.read_text(), path=str(path))
    assert lock.requirements == ("keras==2.8.0", "numpy==1.23.5", "tensorflow==2.8.0")
    supplied = {constraint.requirement: constraint.symptom for constraint in lock.constraints}
    assert "Descriptors cannot" in supplied["protobuf<3.21"]
    assert lock.packages["protobuf"].startswith("3.20.")


@pytest.mark.oldest_core
def test_second_run_changes_nothing_and_asks_no_network(site: Site, classic: str) -> None:
    run = site.play("workstation", environ=NO_NETWORK, tensorflow_version="2.8.0", tensorflow_requirements=classic)
    assert run.code == 0, run.output
    assert run.counts["changed"] == 0
    assert run.counts["ok"] <= 6
    assert run.counts["skipped"] <= 2
    assert run.report["check"]["reused"]
    assert run.report["succeeded"]


def test_verify_sees_what_was_swapped_by_hand_and_the_next_run_repairs_it(site: Site, classic: str) -> None:
    wish = {"tensorflow_version": "2.8.0", "tensorflow_requirements": classic}
    assert site.play("verify", **wish).code == 0
    numpy = next((site.root / "tensorflow-2.8.0/lib").glob("python3.*/site-packages/numpy/version.py"))
    mine = numpy.with_suffix(".new")
    mine.write_text(numpy.read_text() + "# mine\n")
    os.replace(mine, numpy)
    run = site.play("verify", **wish)
    assert run.code != 0
    assert "numpy: numpy/version.py has" in run.output
    advice = f"Run playbooks/workstation.yml with tensorflow_version=2.8.0, tensorflow_requirements={classic}."
    assert advice in " ".join(run.output.split())
    # From the cache below the root: no network.
    repaired = site.play("workstation", environ=NO_NETWORK, **wish)
    assert repaired.code == 0, repaired.output
    assert repaired.report["done"]["action"] == "repair"
    assert site.play("verify", **wish).code == 0


def test_a_bare_verify_knows_the_file_and_what_a_user_adds_stays(site: Site, classic: str, uv: str) -> None:
    command = [uv, "pip", "install", "-q", "--python", site.root / "tensorflow-2.8.0" / "bin" / "python", "pandas<2"]
    subprocess.run(command, check=True)
    pandas = site.python("tensorflow-2.8.0", "import pandas; print(pandas.__version__)").stdout.strip()
    run = site.play("workstation", tensorflow_version="2.8.0", tensorflow_requirements=classic)
    assert (run.code, run.counts["changed"]) == (0, 0), run.output
    assert f"pandas {pandas}" in run.report["additions"]
    assert not run.report["check"]["reused"], "what was added may break TensorFlow"
    verified = site.play("verify")
    assert verified.code == 0, verified.output
    assert f"has, beside its lock: pandas {pandas}" in verified.output
    subprocess.run(
        [uv, "pip", "uninstall", "-q", *command[4:6], *(a.split()[0] for a in run.report["additions"])], check=True
    )


def test_a_minor_followed_by_compatible_release(site: Site) -> None:
    requirements = site.path / "minor.txt"
    requirements.write_text("tensorflow~=2.8.0\nkeras~=2.8.0\n")
    run = site.play("plan", tensorflow_requirements=str(requirements))
    assert run.code == 0, run.output
    assert "TensorFlow 2.8.4 (cpu)" in run.output


def test_another_lock_for_one_name_and_back(site: Site, classic: str) -> None:
    other = site.path / "other.txt"
    other.write_text(CLASSIC_PINS.replace("1.23.5", "1.22.4"))
    name, program = "tensorflow-2.8.0", "import numpy, tensorflow; print(numpy.__version__)"
    wish = {"tensorflow_version": "2.8.0", "tensorflow_requirements": str(other)}
    refused = site.play("workstation", **wish)
    assert refused.code != 0 and f"was applied with {classic}" in " ".join(refused.output.split())
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
    assert site.imports("tensorflow-2.10.0") == "2.10.0"
    assert "Set tensorflow_environment to the name" in site.play("remove").output


class TestNaiveWays:
    """What pip does with the same wishes on the same day. uv brings pip: a distribution's Python may have none."""

    def test_the_three_pins_alone_install_and_do_not_import(self, site: Site, uv: str) -> None:
        interpreter = os.path.realpath(site.root / "tensorflow-2.10.0" / "bin" / "python")
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
