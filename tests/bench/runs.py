"""Runs of playbooks, with what they cost: shared by the programs beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
ANSIBLE_PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
EMPTY = "- hosts: all\n  gather_facts: false\n  tasks: []\n"
PING = "- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.ping:\n"
# A run without a task does not end well, on purpose (callback_plugins/stack_progress.py).
EMPTY_ENDS_WITH = 1


class Cost(NamedTuple):
    wall: float  # seconds
    cpu: float  # seconds, of ansible-playbook and everything that it started
    peak: int  # bytes, resident, of the largest of these processes


def run(inventory: str, *arguments: str, expected: int = 0) -> Cost:
    """Run a playbook of this checkout; ends the program if it does not end as expected."""
    command = [str(ANSIBLE_PLAYBOOK), "-i", inventory, *arguments]
    # Without compiled modules each run would compile the toolkit again, which no user does.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != expected:
            output.seek(0)
            sys.exit(output.read().decode("utf-8", "replace"))
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
