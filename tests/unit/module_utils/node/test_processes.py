"""Who uses the GPUs or an environment of a node."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.node.files import NodeFiles
from ansible.module_utils.tensorflow_stack.node.processes import find_users

from tests import nodes


def process(root: Path, number: int, command: str, device: str, **texts: str) -> None:
    links = {f"/proc/{number}/fd/3": device}
    nodes.build({"links": links, "files": {}}, root)
    for name, text in {"cmdline": command, **texts}.items():
        path = root / "proc" / str(number) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_who_uses_the_gpu_with_user_and_job(tmp_path: Path) -> None:
    root_uid = "Name:\tpython3\nUid:\t0\t0\t0\t0\n"
    process(tmp_path, 900, "nvidia-persistenced\0--user\0nvpd\0", "/dev/nvidiactl", status=root_uid)
    process(tmp_path, 12, "bash\0", "/dev/pts/0", status=root_uid)
    in_job = "0::/system.slice/slurmstepd.scope/job_42/step_0/user/task_0\n"
    process(tmp_path, 4711, "/usr/bin/python3\0train.py\0--token=x\0", "/dev/nvidia0", status=root_uid, cgroup=in_job)
    unknown = "Uid:\t4200000\t0\t0\t0\n"
    variables = "HOME=/\0SLURM_JOB_ID=7\0"
    process(tmp_path, 5000, "/opt/train\0", "/dev/nvidia-uvm", status=unknown, environ=variables)
    found = find_users(NodeFiles(str(tmp_path)), gpu=True, environment=None)
    assert found == {
        "gpu": [
            {"pid": 4711, "program": "python3 train.py", "user": "root", "slurm_job": 42},
            {"pid": 5000, "program": "train", "user": "4200000", "slurm_job": 7},
        ],
        "environment": [],
    }


def test_who_uses_an_environment(tmp_path: Path) -> None:
    build = tmp_path / ".builds" / "vision-0123456789ab-1"
    (build / "bin").mkdir(parents=True)
    (build / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "vision").symlink_to(f".builds/{build.name}")
    environment = str(tmp_path / "vision")
    with subprocess.Popen(
        [f"{environment}/bin/python", "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as user:
        try:
            assert user.stdout and user.stdout.readline()
            found = find_users(NodeFiles("/"), gpu=False, environment=environment)
        finally:
            user.kill()
    (row,) = found["environment"]
    assert (row["pid"], row["program"]) == (user.pid, "python")
    assert found["gpu"] == []
    if os.geteuid() == 0:
        assert row["user"] == "root"


def test_a_process_without_texts_is_named_all_the_same(tmp_path: Path) -> None:
    process(tmp_path, 8, "", "/dev/nvidia0")
    (row,) = find_users(NodeFiles(str(tmp_path)), gpu=True, environment=None)["gpu"]
    assert row == {"pid": 8, "program": "", "user": "an unknown user", "slurm_job": None}


@pytest.mark.parametrize("environment", ["/opt/tensorflow/none", "/opt/tensorflow/none/"])
def test_an_environment_that_does_not_exist_is_used_by_nobody(environment: str) -> None:
    assert find_users(NodeFiles("/"), gpu=False, environment=environment) == {"gpu": [], "environment": []}
