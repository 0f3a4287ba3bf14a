"""What unit tests may start: no installer, no new environment, no playbook."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = {"ansible", "ansible-playbook", "pip", "pip3", "uv", "uvx"}
MODULES = {"ensurepip", "pip", "uv", "venv", "virtualenv"}
_stand_ins: Path | None = None


def heavy(command: str | bytes | Sequence[Any], stand_ins: Path) -> str | None:
    """The installer or playbook that a command starts. A program below `stand_ins` is a script that the test wrote."""
    words = [*map(os.fsdecode, shlex.split(os.fsdecode(command)) if isinstance(command, (str, bytes)) else command)]
    program = Path(words[0]) if words else Path()
    if program.name in PROGRAMS and stand_ins not in program.parents:
        return program.name
    return next((name for option, name in zip(words, words[1:]) if option == "-m" and name in MODULES), None)


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen" and _stand_ins and (found := heavy(arguments[1], _stand_ins)):
        pytest.fail(f"A unit test starts {found}. Move it to tests/component.")


# An audit hook sees a process before it starts, whoever starts it. It cannot be removed, so it is told when to look.
sys.addaudithook(_watch)


@contextlib.contextmanager
def refuse_heavy(stand_ins: Path) -> Iterator[None]:
    global _stand_ins
    _stand_ins = stand_ins
    try:
        yield
    finally:
        _stand_ins = None
