"""Whether an interpreter starts, found by starting it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import interpreter

from tests.conftest import RunModule

MINOR = "%d.%d" % sys.version_info[:2]


def test_one_that_starts_has_no_fault(run_module: RunModule, tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    for check in (True, False):
        result = run_module("tensorflow_interpreter_info", check=check, path=str(tmp_path / "python"), minor=MINOR)
        assert (result["fault"], result["changed"]) == (None, False)
        assert result["real_path"] == os.path.realpath(sys.executable)


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        (
            "echo; echo 'loading shared libraries: libpython3.10.so.1.0: no such file' >&2; exit 127",
            "does not start: loading shared libraries: libpython3.10.so.1.0: no such file",
        ),
        ("exit 3", "does not start: it ends with 3"),
        ("kill -SEGV $$", "does not start: it ends with -11"),
        ("sleep 60", "does not end within 0.2 s"),
        ("echo 3.9", "says that it is Python '3.9'"),
        (None, "does not start: No such file or directory"),
    ],
)
def test_one_that_does_not_start_says_why(
    run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, fault: str
) -> None:
    path = tmp_path / "python3.10"
    if script:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    if "sleep" in (script or ""):
        monkeypatch.setattr(interpreter, "_START_SECONDS", 0.2)
    result = run_module("tensorflow_interpreter_info", path=str(path), minor="3.10")
    assert (result["fault"], result.get("failed", False)) == (fault, False)
