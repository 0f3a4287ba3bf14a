"""Processes of a node that use its GPUs or one of its environments, as far as this user may look."""

from __future__ import annotations

import os
import pwd
import re
from typing import Any

from ..environment.builds import builds_of
from ..io.processes import processes_using, program_of
from .files import NodeFiles

# They hold the GPU and do no work of a user.
_SERVICES = (  # fact: NVIDIA's packages of the driver and of DCGM, 2026-11-26
    "nvidia-persistenced",
    "nv-fabricmanager",
    "nvidia-powerd",
    "nv-hostengine",
    "dcgm-exporter",
)
_SLURM_CGROUP = re.compile(r"/job_([0-9]{1,18})(?:/|$)", re.MULTILINE)
_SLURM_VARIABLE = re.compile(r"(?:^|\0)SLURM_JOB_ID=([0-9]{1,18})(?:\0|$)")
_UID = re.compile(r"^Uid:\s+([0-9]{1,18})\b", re.MULTILINE)


def find_users(files: NodeFiles, *, gpu: bool, environment: str | None) -> dict[str, list[dict[str, Any]]]:
    """Processes by what they use; nothing is looked for that is not asked for."""
    holders = [row["pid"] for row in gpu_processes(files)] if gpu else []
    users: list[int] = []
    if environment:
        root, name = os.path.split(environment.rstrip("/"))
        users = processes_using([environment, *(build.path for build in builds_of(root, name))])
    described = [_describe(files, number) for number in holders]
    return {
        "gpu": [row for row in described if row["program"].split(" ")[0] not in _SERVICES],
        "environment": [_describe(files, number) for number in users],
    }


def gpu_processes(files: NodeFiles) -> list[dict[str, Any]]:
    """Processes that have a device file of NVIDIA's open."""
    rows = []
    for number in sorted(filter(re.compile("[0-9]+").fullmatch, files.names("/proc", "processes")), key=int):
        directory = f"/proc/{number}"
        devices = set()
        for descriptor in files.names(f"{directory}/fd", "processes"):
            try:
                target = files.link_target(f"{directory}/fd/{descriptor}")
            except OSError:  # it has ended meanwhile
                continue
            if target and target.startswith("/dev/nvidia"):
                devices.add(target)
        if devices:
            command = files.text(f"{directory}/cmdline", "processes") or ""
            rows.append(
                {"pid": int(number), "command": command.replace("\x00", " ").strip(), "devices": sorted(devices)}
            )
    return rows


def _describe(files: NodeFiles, number: int) -> dict[str, Any]:
    text = {name: files.text(f"/proc/{number}/{name}", "processes") or "" for name in ("cgroup", "environ", "status")}
    uid = _UID.search(text["status"])
    job = _SLURM_CGROUP.search(text["cgroup"]) or _SLURM_VARIABLE.search(text["environ"])
    return {
        "pid": number,
        "program": program_of((files.text(f"/proc/{number}/cmdline", "processes") or "").split("\0")),
        "user": _name_of(int(uid.group(1))) if uid else "an unknown user",
        "slurm_job": int(job.group(1)) if job else None,
    }


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
