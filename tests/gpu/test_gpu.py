"""`run.py` beside this on the GPU of this machine; without one it is skipped, and says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "run.py"


@pytest.mark.gpu
def test_the_check_on_a_gpu(tmp_path: Path) -> None:
    """GPU_TEST_ARGUMENTS: what to give to run.py, such as `2.18.1 --python /opt/tensorflow/.../bin/python`."""
    arguments = os.environ.get("GPU_TEST_ARGUMENTS", "").split() or ["none"]
    done = subprocess.run([sys.executable, str(RUN), *arguments], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    if arguments == ["none"]:
        pytest.fail("set GPU_TEST_ARGUMENTS to the release and its Python: there is a GPU here")
    assert done.returncode == 0, done.stderr
