"""The downgrade that people come for, with real TensorFlow, by the playbooks.

One machine's story in order: each test goes on from what the one before left.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from ansible.module_utils.tensorflow_stack.records.lockfile import parse_lock

from tests.bench.runs import PING, run
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


def test_2_10_is_there_first(site: Site) -> None:
    run = site.play("workstation", tensorflow_version="2.10.0")
    assert run.code == 0, run.output
    assert site.imports("tensorflow-2.10.0") == "2.10.0"


def test_check_mode_says_what_the_real_run_then_does(site: Site, classic: str) -> None:
    run = site.play("workstation", "--check", "--diff", tensorflow_version="2.8.0", tensorflow_requirements=classic)
    assert run.code == 0, run.output
    assert "+numpy==1.23.5\n" in run.output
    assert not (site.path / "classic.locks").exists()
    assert not os.path.lexists(site.root / "tensorflow-2.8.0")
    assert run.counts["changed"] == 2, "the lock and the environment"


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


def test_the_lock_says_what_our_constraints_supplied(site: Site, classic: str) -> None:
    (path,) = (site.path / "classic.locks" / "tensorflow-2.8.0").iterdir()
    lock = parse_lock(path.read_text(), path=str(path))
    assert lock.requirements == ("keras==2.8.0", "numpy==1.23.5", "pip", "tensorflow==2.8.0")
    supplied = {constraint.requirement: constraint.symptom for constraint in lock.constraints}
    assert "Descriptors cannot" in supplied["protobuf<3.21"]
    assert lock.packages["protobuf"].startswith("3.20.")


def test_second_run_changes_nothing_and_asks_no_network(site: Site, classic: str) -> None:
    run = site.play("workstation", environ=NO_NETWORK, tensorflow_version="2.8.0", tensorflow_requirements=classic)
    assert run.code == 0, run.output
    assert run.counts["changed"] == 0
    # One task that ran one module on the node, gpu_node_info; neither the build nor the check was started.
    assert (run.counts["ok"], run.counts["skipped"]) == (1, 0)
    assert "[tensorflow_venv" not in run.output and "[tensorflow_check" not in run.output
    assert run.report["check"]["reused"]
    assert run.report["done"]["action"] == "keep"
    assert run.report["succeeded"]


def test_second_run_is_not_twice_a_module(site: Site, classic: str, tmp_path: Path) -> None:
    """5 s. A ratio, because a busy machine is slow at both: 1.6 today, and 2.1 with one module more."""
    ping = tmp_path / "ping.yml"
    ping.write_text(PING)
    command = site.command("workstation", tensorflow_version="2.8.0", tensorflow_requirements=classic)
    inventory, again = command[2], command[3:]
    pairs = [(run(inventory, *again).cpu, run(inventory, str(ping)).cpu) for _ in range(3)]
    assert statistics.median(second / module for second, module in pairs) < 1.9


def test_verify_sees_what_was_swapped_by_hand_and_the_next_run_repairs_it(site: Site, classic: str) -> None:
    wish = {"tensorflow_version": "2.8.0", "tensorflow_requirements": classic}
    numpy = next((site.root / "tensorflow-2.8.0/lib").glob("python3.*/site-packages/numpy/version.py"))
    mine = numpy.with_suffix(".new")
    mine.write_text(numpy.read_text() + "# mine\n")
    os.replace(mine, numpy)
    run = site.play("verify", **wish)
    assert run.code != 0
    assert "numpy: numpy/version.py has" in run.output
    advice = f"Run playbooks/workstation.yml with tensorflow_version=2.8.0, tensorflow_requirements={classic}."
    assert advice in " ".join(run.output.split())
    planned = site.play("plan", **wish)
    assert "is damaged (numpy: numpy/version.py has" in " ".join(planned.output.split())
    # From the cache below the root: no network.
    repaired = site.play("workstation", environ=NO_NETWORK, **wish)
    assert repaired.code == 0, repaired.output
    assert repaired.report["done"]["action"] == "repair"
    assert site.play("verify", **wish).code == 0


@pytest.mark.slow  # test_additions.py has it in small wheels
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
    assert f"has additions to its lock: pandas {pandas}" in verified.output
    subprocess.run(
        [uv, "pip", "uninstall", "-q", *command[4:6], *(a.split()[0] for a in run.report["additions"])], check=True
    )


def test_a_minor_followed_by_compatible_release(site: Site) -> None:
    requirements = site.path / "minor.txt"
    requirements.write_text("tensorflow~=2.8.0\nkeras~=2.8.0\n")
    run = site.play("plan", tensorflow_requirements=str(requirements))
    assert run.code == 0, run.output
    assert "TensorFlow 2.8.4 (cpu)" in run.output
