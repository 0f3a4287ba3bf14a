"""Locks from the real package index."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.tables.load import load_tables

from tests.playbooks import ANSIBLE_PLAYBOOK, run_playbook
from tests.wheels import make_tensorflow, make_wheel

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[2]
CUTOFF = "2026-11-22T00:00:00Z"


@pytest.fixture
def make_lock(run_module: Any, tmp_path: Path) -> Any:
    """Locks the text of a requirements file for one Python without CUDA."""

    def make(requirements: str, **options: Any) -> dict[str, Any]:
        path = tmp_path / "requirements.txt"
        path.write_text(requirements)
        arguments = {
            "requirements": str(path),
            "pythons": ["3.10"],
            "flavours": ["cpu"],
            "cutoff": CUTOFF,
            "directory": str(tmp_path / "locks"),
            "tables": str(REPOSITORY / "roles/tensorflow_release/files/tables"),
            "tools_directory": str(REPOSITORY / ".tools"),
        }
        result: dict[str, Any] = run_module("tensorflow_lock", **{**arguments, **options})
        return result

    return make


def packages(lock: dict[str, Any]) -> dict[str, str]:
    lines = [line for line in lock["text"].splitlines() if not line.startswith("#")]
    return dict(line.split(" ")[0].split("==") for line in lines)


def test_classic_pins(make_lock: Any) -> None:
    pins = "tensorflow==2.8.0\nnumpy==1.23.5\nkeras==2.8.0\n"
    foreseen = make_lock(pins, check=True)
    made = make_lock(pins)
    again = make_lock(pins, cutoff="2026-11-23T00:00:00Z", index_url="http://127.0.0.1:9/simple")
    [lock] = made["locks"]
    path = Path(lock["path"])
    assert (foreseen["changed"], made["changed"], again["changed"]) == (True, True, False)
    assert [run["locks"][0]["state"] for run in (foreseen, made, again)] == ["created", "created", "unchanged"]
    assert foreseen["locks"][0]["text"] == path.read_text() == again["locks"][0]["text"]
    assert packages(lock)["protobuf"].startswith("3.20.")
    assert packages(lock)["numpy"] == "1.23.5"
    assert packages(lock)["keras"] == "2.8.0"
    assert "# requirements: keras==2.8.0, numpy==1.23.5, pip, tensorflow==2.8.0\n" in path.read_text()
    assert "# constraint: protobuf<3.21 (TypeError: Descriptors" in path.read_text()


def test_nothing_is_written_in_check_mode(make_lock: Any, tmp_path: Path) -> None:
    make_lock("tensorflow==2.8.0\n", check=True)
    assert not (tmp_path / "locks").exists()


def test_installers_take_a_lock(make_lock: Any, tmp_path: Path) -> None:
    [lock] = make_lock("tensorflow==2.8.0\n")["locks"]
    [uv] = (REPOSITORY / ".tools").glob("uv-*/uv")
    command = [
        uv,
        "pip",
        "install",
        "--dry-run",
        "--no-config",
        "--require-hashes",
        "--no-deps",
        "--only-binary",
        ":all:",
    ]
    target = ["--python-version", "3.10", "--python-platform", "x86_64-manylinux_2_35", "--target", tmp_path / "none"]
    done = subprocess.run([*command, *target, "-r", lock["path"]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    taken = {line.strip(" +") for line in done.stderr.splitlines() if line.startswith(" + ")}
    assert taken == {f"{name}=={version}" for name, version in packages(lock).items()}


def test_project_of_the_user_is_kept(make_lock: Any) -> None:
    [lock] = make_lock("tensorflow-gpu==2.8.0\n")["locks"]
    assert packages(lock)["tensorflow-gpu"] == "2.8.0"
    assert "tensorflow" not in packages(lock)
    assert packages(lock)["protobuf"].startswith("3.20.")


def test_range_takes_the_newest_patch_and_is_refreshed_on_demand(make_lock: Any) -> None:
    wishes = "tensorflow~=2.8.0\nkeras~=2.8.0\n"
    made = make_lock(wishes, cutoff="2026-06-01T00:00:00Z")
    assert made["release"] == "2.8.4"
    assert packages(made["locks"][0])["tensorflow"] == "2.8.4"
    kept = make_lock(wishes)
    assert kept["locks"][0]["state"] == "unchanged"
    refreshed = make_lock(wishes, upgrade=True, diff=True)
    [lock] = refreshed["locks"]
    assert lock["state"] == "updated"
    # absl-py 2.5.1 was uploaded on 2026-10-09, after the first cutoff.
    assert any(change.startswith("absl-py ") and change.endswith(" -> 2.5.1") for change in lock["changed_versions"])
    assert "absl-py==2.5.1\n" in refreshed["diff"][0]["after"]
    assert "absl-py==2.5.1\n" not in refreshed["diff"][0]["before"]
    assert make_lock(wishes, upgrade=True)["changed"] is False


def test_new_line_leaves_other_versions_alone(make_lock: Any) -> None:
    before = make_lock("tensorflow==2.8.0\n", cutoff="2026-06-01T00:00:00Z")["locks"][0]
    after = make_lock("tensorflow==2.8.0\nnumpy<1.26\n")["locks"][0]
    assert [change.split(" ")[0] for change in after["changed_versions"]] == ["numpy"]
    assert packages(before)["numpy"] == "1.26.4"
    assert packages(after)["numpy"] == "1.25.2"


def test_conflict_names_the_line(make_lock: Any, tmp_path: Path) -> None:
    failed = make_lock("tensorflow==2.8.0\nprotobuf>=4\n")
    assert failed["failed"] is True
    path = tmp_path / "requirements.txt"
    assert failed["msg"] == (
        f"TensorFlow 2.8.0 for CPython 3.10, linux_x86_64, cpu cannot be installed with protobuf>=4 ({path}:2): "
        "TensorFlow 2.8.0 needs protobuf<3.21 (a known break without it: TypeError: Descriptors cannot be created "
        "directly); protobuf 3.20.3 would fit, which >=4 excludes. The nearest TensorFlow release that fits the rest "
        "of the file is 2.12.1. Change the line. No lock was changed."
    )
    assert "No solution found" in failed["stderr"]


def test_pythons_that_cannot_be_had_are_left_out(make_lock: Any) -> None:
    made = make_lock("tensorflow==2.8.0\nnumpy==1.23.5\n", pythons=[])
    assert [lock["python"] for lock in made["locks"]] == ["3.8", "3.9", "3.10"]
    [left_out] = made["left_out"]
    assert left_out["python"] == "3.7"
    assert "numpy 1.23.5 has no wheel for CPython 3.7, only for 3.8 and 3.9 and 3.10" in left_out["reason"]


@pytest.mark.parametrize(
    ("requirements", "flavour", "clash", "way_out"),
    [
        (
            "tensorflow==2.20.0\ntorch\n",
            "cuda",
            ["nvidia-cudnn-cu12", "nvidia-cudnn-cu13"],
            "torch 2.10.0 would fit.",
        ),
        (
            "tensorflow==2.12.1\ntorch==2.1.2\n",
            "cuda",
            ["nvidia-cudnn-cu11", "nvidia-cudnn-cu12"],
            "Change or leave out torch==2.1.2 (",
        ),
        (
            "tensorflow==2.8.0\nopencv-python==4.8.1.78\nopencv-python-headless==4.8.0.74\n",
            "cpu",
            ["opencv-python", "opencv-python-headless"],
            "Leave out all but one of opencv-python==4.8.1.78 (",
        ),
    ],
)
def test_distributions_that_install_one_path(
    make_lock: Any, requirements: str, flavour: str, clash: list[str], way_out: str
) -> None:
    failed = make_lock(requirements, flavours=[flavour])
    assert failed["failed"] is True
    assert clash in [row["distributions"] for row in failed["clashes"]]
    assert all(row["paths"] for row in failed["clashes"])
    assert "both install " in failed["msg"]
    assert way_out in failed["msg"]
    assert failed["msg"].endswith(" No lock was changed.")


def test_a_flavour_without_a_lock_is_named_beside_the_locks_of_others(make_lock: Any) -> None:
    made = make_lock("tensorflow==2.20.0\ntorch==2.15.0\n", pythons=[], flavours=[], check=True)
    assert {lock["flavour"] for lock in made["locks"]} == {"cpu"}
    [missing] = made["without_lock"]
    assert missing["flavour"] == "cuda"
    assert "nvidia-cudnn-cu13" in missing["reason"]
    assert made["notes"] == []


def test_wheels_of_a_directory_that_install_one_path(
    make_lock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make_tensorflow(wheels, "2.8.0")
    make_wheel(wheels, "pip", "1.0", {"pip.py": ""})
    make_wheel(wheels, "first", "1.0", {"shared.py": "1", "same.py": ""})
    make_wheel(wheels, "second", "1.0", {"shared.py": "22", "same.py": ""})
    failed = make_lock("tensorflow==2.8.0\nfirst\nsecond\n", index_url=wheels.as_uri())
    assert failed["clashes"] == [{"distributions": ["first", "second"], "paths": ["shared.py"]}]


def test_make_lock_ends_badly_where_the_locks_of_the_gpu_are_left_out(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make_tensorflow(wheels, "2.8.0")
    make_wheel(wheels, "pip", "1.0", {"pip.py": ""})
    brought = load_tables(str(REPOSITORY / "roles/tensorflow_release/files/tables")).cuda_wheels_for("2.8.0")
    assert brought is not None
    for name, _, version in (requirement.partition("==") for requirement in brought.requirements):
        make_wheel(wheels, name, version, {f"{name}.so": "theirs"})
    make_wheel(wheels, "torch", "1.0", {"nvidia-cudnn-cu11.so": "another"})
    path = tmp_path / "requirements.txt"
    path.write_text("tensorflow==2.8.0\ntorch\n")
    variables = {"tensorflow_requirements": str(path), "tensorflow_index_url": wheels.as_uri()}
    command = [str(ANSIBLE_PLAYBOOK), "-i", "inventories/workstation", "playbooks/lock.yml"]
    # What uv has in its cache of the real index it would take too.
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    run = run_playbook([*command, "-e", json.dumps(variables)], directory=REPOSITORY, environ=environ)
    assert run.code != 0
    made = sorted(lock.name for lock in (tmp_path / "requirements.locks/tensorflow-2.8.0").iterdir())
    assert made and all(name.endswith("-cpu.txt") for name in made)
    said = " ".join(run.output.split())
    assert "both install nvidia-cudnn-cu11.so, with different contents" in said
    assert (
        "There is no lock of the flavour cuda; if you do not need it, set tensorflow_lock_flavours to the others."
        in said
    )


def test_unreachable_index(make_lock: Any) -> None:
    make_lock("tensorflow==2.8.0\n", check=True)
    failed = make_lock("tensorflow==2.8.0\n", index_url="http://127.0.0.1:9/simple")
    assert failed["failed"] is True
    assert "could not be resolved: " in failed["msg"]
    assert "Check the network, and tensorflow_index_url" in failed["msg"]
