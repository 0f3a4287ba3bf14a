"""The module as a task calls it, on real builds of small wheels."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.wheels import make_lock, make_tensorflow, make_wheel

NAME = "tensorflow-2.8.0"
MINOR = "%d.%d" % sys.version_info[:2]


@pytest.fixture
def arguments(tmp_path: Path, uv: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    numpy = make_wheel(wheels, "numpy", "1.23.5", {"numpy/__init__.py": "version = '1.23.5'\n"})
    lock = make_lock(make_tensorflow(wheels, "2.8.0"), numpy, release="2.8.0", python=MINOR)
    # The uv of the tests stands in for the one that the module would fetch.
    monkeypatch.setattr("ansible.modules.tensorflow_venv.ensure_uv", lambda **_: uv)
    return {
        "name": NAME,
        "root": str(tmp_path / "root"),
        "lock": lock.text,
        "python": os.path.realpath(sys.executable),
        "index_url": wheels.as_uri(),
    }


def test_four_runs(run_module, arguments: dict[str, Any]) -> None:
    checked = run_module("tensorflow_venv", check=True, diff=True, **arguments)
    assert not os.path.exists(arguments["root"]), "check mode changes nothing"
    real = run_module("tensorflow_venv", diff=True, **arguments)
    checked_again = run_module("tensorflow_venv", check=True, **arguments)
    real_again = run_module("tensorflow_venv", **arguments)
    runs = [checked, real, checked_again, real_again]
    assert [run["changed"] for run in runs] == [True, True, False, False]
    assert [run["action"] for run in runs] == ["build", "build", "keep", "keep"]
    assert checked["diff"] == real["diff"]
    assert checked["diff"]["after"] == "numpy==1.23.5\ntensorflow==2.8.0\n"
    assert [sorted(set(run) ^ set(real)) for run in runs] == [[]] * 4, "the same keys in every path"


def test_rollback_and_removal_in_check_mode_and_for_real(run_module, arguments: dict[str, Any], tmp_path: Path) -> None:
    first = run_module("tensorflow_venv", **arguments)
    wheels = tmp_path / "wheels"
    numpy = make_wheel(wheels, "numpy", "1.24.0", {"numpy/__init__.py": "version = '1.24.0'\n"})
    newer = make_lock(make_tensorflow(wheels, "2.8.0"), numpy, release="2.8.0", python=MINOR)
    run_module("tensorflow_venv", **{**arguments, "lock": newer.text})
    target = {"name": NAME, "root": arguments["root"]}
    for state, before, after in [
        ("previous", "numpy==1.24.0", "numpy==1.23.5"),
        ("absent", "numpy==1.23.5", None),
    ]:
        checked = run_module("tensorflow_venv", check=True, diff=True, state=state, **target)
        real = run_module("tensorflow_venv", diff=True, state=state, **target)
        assert checked["changed"] and real["changed"]
        assert checked["diff"] == real["diff"]
        assert before in real["diff"]["before"]
        assert (after in real["diff"]["after"]) if after else real["diff"]["after"] == ""
        if state == "previous":
            assert real["build"] == first["build"]
    assert not run_module("tensorflow_venv", state="absent", **target)["changed"]


def test_what_was_added_is_a_result_and_a_diff(run_module, arguments: dict[str, Any], tmp_path: Path) -> None:
    run_module("tensorflow_venv", **arguments)
    (Path(arguments["root"]) / NAME / "lib" / f"python{MINOR}" / "site-packages" / "mine.pth").write_text("")
    kept = run_module("tensorflow_venv", **arguments)
    assert (kept["changed"], kept["additions"], kept["dropped"]) == (False, ["mine.pth"], [])
    numpy = make_wheel(tmp_path / "wheels", "numpy", "1.24.0", {"numpy/__init__.py": "version = '1.24.0'\n"})
    lock = make_lock(make_tensorflow(tmp_path / "wheels", "2.8.0"), numpy, release="2.8.0", python=MINOR)
    newer = {**arguments, "lock": lock.text}
    for check in (True, False):
        stopped = run_module("tensorflow_venv", check=check, **newer)
        assert stopped["failed"] and "lose what somebody added to it: mine.pth. Nothing was changed." in stopped["msg"]
        assert stopped["additions"] == ["mine.pth"]
    checked = run_module("tensorflow_venv", check=True, diff=True, additions="drop", **newer)
    real = run_module("tensorflow_venv", diff=True, additions="drop", **newer)
    assert checked["diff"] == real["diff"] and real["diff"]["before"].endswith("# mine.pth was added\n")
    assert checked["dropped"] == real["dropped"] == ["mine.pth"]
    removed = run_module("tensorflow_venv", name=NAME, root=arguments["root"], state="absent")
    assert removed["dropped"] == ["mine.pth"]


def test_without_a_lock_the_one_in_the_build_is_meant(run_module, arguments: dict[str, Any]) -> None:
    lock = arguments.pop("lock")
    nothing = run_module("tensorflow_venv", **arguments)
    assert nothing["failed"] and f"There is no environment {NAME} in" in nothing["msg"]
    asked = {"tensorflow_version": "newest"}
    wish = {"lock": lock, "requirements": "/home/me/mine.txt", "asked": asked, "by": "ada@desk"}
    built = run_module("tensorflow_venv", **wish, **arguments)
    root = Path(arguments["root"])
    entry = json.loads((root / "manifest.json").read_text())["environments"][NAME]
    assert entry["requirements"] == {built["build"]: "/home/me/mine.txt"}
    (root / NAME / "lib" / f"python{MINOR}" / "site-packages" / "numpy" / "__init__.py").unlink()
    repaired = run_module("tensorflow_venv", **arguments)
    assert (repaired["action"], repaired["release"]) == ("repair", "2.8.0")
    content = json.loads((root / "manifest.json").read_text())
    entry = content["environments"][NAME]
    assert entry["requirements"][repaired["build"]] == "/home/me/mine.txt", "what it is for is not forgotten"
    assert entry["asked"][repaired["build"]] == {**asked, "tensorflow_index_url": arguments["index_url"]}
    assert [(told["action"], told["by"]) for told in content["history"]] == [("build", "ada@desk"), ("repair", None)]
    assert repaired["rollback"] == {"environment": NAME, "build": built["build"]}
    (root / NAME / "lock.txt").unlink()
    lost = run_module("tensorflow_venv", **arguments)
    assert lost["failed"] and "lock.txt cannot be read as a lock. Set tensorflow_version" in lost["msg"]


def test_corrupt_lock_changes_nothing(run_module, arguments: dict[str, Any]) -> None:
    cut = "\n".join(arguments["lock"].splitlines()[:-1]) + "\n"
    result = run_module("tensorflow_venv", **{**arguments, "lock": cut})
    assert result["failed"]
    assert "the lock of tensorflow-2.8.0" in result["msg"]
    assert "truncated or edited" in result["msg"]
    assert not os.path.exists(arguments["root"])


def test_failure_says_what_and_leaves_nothing(run_module, arguments: dict[str, Any]) -> None:
    result = run_module("tensorflow_venv", **{**arguments, "python": "/nonexistent/python3"})
    assert result["failed"]
    assert "/nonexistent/python3" in result["msg"]
    assert os.listdir(os.path.join(arguments["root"], ".builds")) == [f"{NAME}.log"]


def test_a_damaged_environment_says_so_in_its_diff(run_module, arguments: dict[str, Any]) -> None:
    run_module("tensorflow_venv", **arguments)
    site_packages = Path(arguments["root"], NAME, "lib", f"python{MINOR}", "site-packages")
    (site_packages / "numpy" / "__init__.py").unlink()
    checked = run_module("tensorflow_venv", check=True, diff=True, **arguments)
    assert (checked["changed"], checked["action"]) == (True, "repair")
    assert checked["diff"]["before"].endswith("# numpy: numpy/__init__.py is missing\n")
