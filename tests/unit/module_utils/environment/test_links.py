"""What a build says to its Python at each start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment.links import hide_gpus

SHOW = "import site, sys, os, json; site.addsitedir(sys.argv[1]); print(json.dumps(dict(os.environ)))"


@pytest.mark.parametrize(
    ("given", "visible", "order"),
    [({}, "0,2", "PCI_BUS_ID"), ({"CUDA_VISIBLE_DEVICES": "1"}, "1", None), ({"CUDA_VISIBLE_DEVICES": ""}, "", None)],
)
def test_the_python_of_an_environment_sees_its_gpus(
    tmp_path: Path, given: dict[str, str], visible: str, order: str | None
) -> None:
    (tmp_path / "site-packages").mkdir()
    hide_gpus(str(tmp_path), "site-packages", "0,2")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")}
    command = [sys.executable, "-I", "-c", SHOW, str(tmp_path / "site-packages")]
    said = json.loads(subprocess.run(command, env={**environ, **given}, capture_output=True, check=True).stdout)
    assert (said.get("CUDA_VISIBLE_DEVICES"), said.get("CUDA_DEVICE_ORDER")) == (visible, order)
