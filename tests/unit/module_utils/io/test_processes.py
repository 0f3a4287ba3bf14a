from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.io.processes import name_processes


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["script.py", "--password=secret"], " script.py"),
        (["-m", "code"], " -m code"),
        (["-c", "input()"], ""),
    ],
    ids=["script", "module", "text"],
)
def test_a_process_is_named_by_what_it_runs(tmp_path: Path, words: list[str], name: str) -> None:
    (tmp_path / "script.py").write_text("input()\n")
    program = [sys.executable, *words]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=tmp_path) as process:
        try:
            deadline = time.monotonic() + 10
            # Just after its start a process has no words yet.
            while "(" not in (shown := name_processes([process.pid])) and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            process.kill()
    python = os.path.basename(sys.executable)
    assert shown == f"process {process.pid} ({python}{name})"


def test_processes_that_have_ended_have_a_number() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert name_processes([process.pid, process.pid]) == f"processes {process.pid}, {process.pid}"
