"""Runs of playbooks, with what they cost: shared by the programs beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
ANSIBLE_PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
EMPTY = "- hosts: all\n  gather_facts: false\n  tasks: []\n"
# A run without a task does not end well, on purpose (callback_plugins/stack_progress.py).
EMPTY_ENDS_WITH = 1


class Cost(NamedTuple):
    wall: float  # seconds
    cpu: float  # seconds, of ansible-playbook and everything that it started


def run(inventory: str, *arguments: str, expected: int = 0) -> Cost:
    """Run a playbook of this checkout; ends the program if it does not end as expected."""
    command = [str(ANSIBLE_PLAYBOOK), "-i", inventory, *arguments]
    started, before = time.perf_counter(), os.times()
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wall, after = time.perf_counter() - started, os.times()
    if done.returncode != expected:
        sys.exit(done.stdout)
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(wall, cpu)
