"""Refuses to change what processes of a node use: its driver, and an environment that exists. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .plan import refuse
from .stack import Refusal

_CHANGES = ("install", "change", "remove")
_SET = "Wait until they have ended, have fleet_drain_tasks drain the node, or set fleet_change_in_use to true."


def question(made: Mapping[str, Any]) -> dict[str, Any] | None:
    """Arguments of `gpu_processes_info` for a plan that changes something that may be in use, None for any other."""
    actions = {step["component"]: step["action"] for step in made["steps"]}
    asked: dict[str, Any] = {}
    if actions.get("driver") in _CHANGES:
        asked["gpu"] = True
    # One that is not installed yet is used by nobody.
    if actions.get("environment") == "change":
        asked["environment"] = made["environment"]["path"]
    return asked or None


def refuse_in_use(made: dict[str, Any], found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """The plan, refused if a process was found."""
    refusals = []
    if found["gpu"]:
        refusals.append(
            Refusal("driver", found=named(found["gpu"]), wanted="no process that uses a GPU, to change it", set=_SET)
        )
    if found["environment"]:
        wanted = f"no process that uses {made['environment']['path']}, to change it"
        refusals.append(Refusal("environment", found=named(found["environment"]), wanted=wanted, set=_SET))
    return refuse(made["release"], tuple(refusals)) if refusals else made


def named(processes: Sequence[Mapping[str, Any]]) -> str:
    """ "process 12 (python3 train.py) of ada, Slurm job 7", and so on."""
    return "; ".join(
        f"process {one['pid']} ({one['program'] or 'without a name'}) of {one['user']}"
        + (f", Slurm job {one['slurm_job']}" if one["slurm_job"] else "")
        for one in processes
    )
