"""The module on this Python; fetching one for real is in tests/integration/test_interpreter.py."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.environment import interpreter
from ansible.modules import tensorflow_interpreter

from tests.conftest import RunModule

MINOR = "%d.%d" % sys.version_info[:2]
PYTHON = os.path.realpath(sys.executable)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """What was fetched, without fetching."""
    found: list[Mapping[str, Any]] = []
    monkeypatch.setattr(tensorflow_interpreter, "ensure_uv", lambda **options: f"{options['directory']}/uv")
    monkeypatch.setattr(
        interpreter, "fetch", lambda path, minor, **options: found.append({"path": path, "minor": minor, **options})
    )
    return found


def test_one_that_runs_is_kept(run_module: RunModule, fetched: list[Any], tmp_path: Path) -> None:
    options = {"path": PYTHON, "minor": MINOR, "source": "uv", "root": str(tmp_path)}
    result = run_module("tensorflow_interpreter", diff=True, **options)
    assert (result["changed"], result["interpreter"], fetched) == (False, PYTHON, [])
    assert result["diff"]["before"] == result["diff"]["after"] == f"Python {MINOR} at {PYTHON}\n"


@pytest.mark.parametrize("check", [True, False])
def test_one_that_is_missing_is_fetched_below_the_root(
    run_module: RunModule, fetched: list[Any], tmp_path: Path, check: bool
) -> None:
    options = {"path": str(tmp_path / "python"), "minor": "3.10", "source": "uv", "root": str(tmp_path), "mirror": "m"}
    options["places"] = ["releases.astral.sh", "github.com"]
    options["archives"] = {"3.10": "0" * 64}
    result = run_module("tensorflow_interpreter", check=check, diff=True, **options)
    assert result["changed"] and result["diff"]["before"] == ""
    wanted = {
        "path": options["path"],
        "minor": "3.10",
        "root": str(tmp_path),
        "uv": f"{tmp_path}/.tools/uv",
        "mirror": "m",
        "downloads": None,
        "places": ["releases.astral.sh", "github.com"],
        "archives": {"3.10": "0" * 64},
        "log": f"{tmp_path}/.builds/python.log",
    }
    assert fetched == ([] if check else [wanted])


@pytest.mark.parametrize("source", ["found", "distro"])
def test_one_that_should_be_there_is_not_fetched(
    run_module: RunModule, fetched: list[Any], tmp_path: Path, source: str
) -> None:
    options = {"path": str(tmp_path / "python"), "minor": "3.10", "source": source, "root": str(tmp_path)}
    result = run_module("tensorflow_interpreter", **options)
    assert result["failed"] and fetched == []
    assert result["msg"] == (
        f"Python 3.10 was planned at {options['path']} (source: {source}), but none starts there. "
        "Install it, or set python_source to auto."
    )
    # Its package is about to be installed: nothing can be judged before.
    assert run_module("tensorflow_interpreter", check=True, **options)["changed"] is False


def test_another_minor_is_none(run_module: RunModule, fetched: list[Any], tmp_path: Path) -> None:
    options = {"path": PYTHON, "minor": "2.7", "source": "found", "root": str(tmp_path)}
    assert "Python 2.7 was planned" in run_module("tensorflow_interpreter", **options)["msg"]
