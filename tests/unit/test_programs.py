"""A unit test that starts an installer or a playbook fails, however it starts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import programs

HEAVY = [
    (["uv", "pip", "install", "six"], "uv"),
    (["/opt/tools/uv", "--version"], "uv"),
    ([Path("/opt/venv/bin/ansible-playbook"), "plan.yml"], "ansible-playbook"),
    ([b"/opt/venv/bin/pip3", b"list"], "pip3"),
    ([sys.executable, "-I", "-m", "venv", "x"], "venv"),
    ("python3 -m pip --version", "pip"),
]
LIGHT = [["make", "help"], [sys.executable, "-m", "json.tool"], ["grep", "uv", "x"], "true", []]


@pytest.mark.parametrize(("command", "found"), HEAVY)
def test_an_installer_or_a_playbook_is_found(command: Any, found: str, tmp_path: Path) -> None:
    assert programs.heavy(command, tmp_path) == found


@pytest.mark.parametrize("command", LIGHT, ids=str)
def test_other_programs_are_left_alone(command: Any, tmp_path: Path) -> None:
    assert programs.heavy(command, tmp_path) is None


def test_a_unit_test_that_starts_one_fails() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"starts venv\. Move it to tests/component\."):
        subprocess.run([sys.executable, "-m", "venv", "--help"], capture_output=True)


def test_a_stand_in_that_the_test_wrote_may_be_started(tmp_path: Path) -> None:
    (tmp_path / "uv").write_text("#!/bin/sh\necho stand-in\n")
    (tmp_path / "uv").chmod(0o755)
    assert subprocess.check_output([tmp_path / "uv", "--version"], text=True) == "stand-in\n"
