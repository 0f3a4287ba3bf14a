from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import BusyError
from ansible.module_utils.tensorflow_stack.packages import dpkg_lock
from ansible.module_utils.tensorflow_stack.packages.dpkg_lock import find_holder, frontend_lock

PROGRAM = (
    "import fcntl, sys, time; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, 2); print(1, flush=True); time.sleep(60)"
)


def test_holder_of_a_lock_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    path.touch()
    monkeypatch.setattr(dpkg_lock, "FRONTEND_LOCK", str(path))
    monkeypatch.setattr(dpkg_lock, "POLL_SECONDS", 0.01)
    child = subprocess.Popen([sys.executable, "-c", PROGRAM, str(path)], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        with open(path, "r+b") as file:
            assert find_holder(file.fileno()).startswith(f"process {child.pid} (python")
        said = rf"{path} is held by process {child.pid} \(python.*\); waited 0.05 s. Run again when it has ended"
        with pytest.raises(BusyError, match=said), frontend_lock(0.05):
            pass
    finally:
        child.kill()
        child.communicate()
    with frontend_lock(0), open(path, "r+b") as file:
        assert find_holder(file.fileno()) == "an unknown process"
        fcntl.lockf(file, fcntl.LOCK_EX)
