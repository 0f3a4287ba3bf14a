"""Whether an interpreter starts, found by starting it; and what a cache holds for it."""

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
        result = run_module(
            "tensorflow_build_info", check=check, root=str(tmp_path), python=str(tmp_path / "python"), minor=MINOR
        )
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
    result = run_module("tensorflow_build_info", root=str(tmp_path), python=str(path), minor="3.10")
    assert (result["fault"], result.get("failed", False)) == (fault, False)


def test_what_a_cache_holds_for_a_python(run_module: RunModule, tmp_path: Path) -> None:
    wheels = tmp_path / ".cache" / "uv" / "wheels-v8"
    for entry in (
        "pypi/numpy/1.23.5-cp310-cp310-manylinux_2_17_x86_64.manylinux2014_x86_64",
        "pypi/numpy/1.26.4-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
        "pypi/six/1.17.0-py2.py3-none-any",
        "pypi/cryptography/49.0.0-cp39-abi3-manylinux_2_34_x86_64",
        "index/0123456789abcdef/tensorflow/2.8.0-cp310-cp310-manylinux2010_x86_64",
        "another/layout",
    ):
        (wheels / entry).mkdir(parents=True)
    (wheels / "pypi" / "six" / "1.16.0-py2.py3-none-any").symlink_to("../../../archive-v0/pruned")
    (wheels / "pypi" / "six" / "1.17.0-py2.py3-none-any.http").write_text("")
    result = run_module("tensorflow_build_info", root=str(tmp_path), minor="3.10")
    assert (result["fault"], result["real_path"]) == (None, None)
    assert result["cached"] == ["cryptography==49.0.0", "numpy==1.23.5", "six==1.17.0", "tensorflow==2.8.0"]
    assert run_module("tensorflow_build_info", root=str(tmp_path / "none"), minor="3.10")["cached"] == []
