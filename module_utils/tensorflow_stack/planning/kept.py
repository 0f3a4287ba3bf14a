"""What of a plan is done already, so that neither the build nor the check has to start on the node. Pure.

On an unchanged node this leaves one module to run there, `gpu_node_info`: it compares the files of the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..records.evidence import evidence_digest
from .node import Environment, NodeFacts
from .stack import PLANNED_VARIABLES


def find_kept(plan: dict[str, Any], node: NodeFacts, *, in_use: bool = True) -> dict[str, dict[str, Any] | None]:
    """`environment` and `check`: what `tensorflow_venv` and `tensorflow_gpu_check` would return, null if they must run.

    With a role that has something to do nothing is taken for granted: it may change what the node's record says. One of
    several environments of a node need not be the one in use.
    """
    environment = None if plan["refusals"] or plan["roles"] else _whole_environment(plan, node, in_use)
    if environment is None:
        return {"environment": None, "check": None}
    return {"environment": _venv_result(plan, node, environment), "check": _check_result(plan, node, environment)}


def _whole_environment(plan: dict[str, Any], node: NodeFacts, in_use: bool) -> Environment | None:
    """The environment, if it is what is planned, its files are, too, and the manifest says what a run would write."""
    wanted, lock = plan["environment"], plan["lock"]
    found = node.environment(wanted["name"])
    if found is None or found.digest != wanted["digest"] or found.damage is None or found.damage or found.unfinished:
        return None
    if wanted["image"] and found.image != wanted["image"]["sha256"]:
        return None
    is_recorded = lock["state"] == "applied" or (
        found.is_requirements_path_recorded
        and found.requirements_path == lock["requirements"]
        and _planned(found.asked or {}) == _planned(plan["asked"])
    )
    return found if is_recorded and (node.current_name == found.name or not in_use) else None


def _planned(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if name in PLANNED_VARIABLES}


def _venv_result(plan: dict[str, Any], node: NodeFacts, found: Environment) -> dict[str, Any]:
    return {
        "changed": False,
        "action": "keep",
        "environment": plan["environment"]["path"],
        "build": found.build,
        "release": found.release,
        "flavour": found.flavour,
        "damage": [],
        "additions": [addition.text for addition in found.additions],
        "dropped": [],
        "kept_builds": [],
        "removed_builds": [],
        "rollback": node.rollback,
        "passed_over": [],
        "bytes_to_fetch": 0,
        "seconds": {},
    }


def _check_result(plan: dict[str, Any], node: NodeFacts, found: Environment) -> dict[str, Any] | None:
    """The stored verdict, if it is the one that is planned and holds for this node as it is."""
    stored = node.checks.get(found.name)
    if not stored or stored["verdict"] != plan["verdict"] or stored["evidence_sha256"] != _evidence(plan, node, found):
        return None
    return {
        "changed": False,
        "verdict": stored["verdict"],
        "reason": " ".join(filter(None, (stored["reason"], plan["unused_gpu"]))),
        "causes": [],
        "reused": True,
        "stored": True,
        "checked_at": stored["checked_at"],
        "report": stored["report"],
        "stderr_tail": [],
    }


def _evidence(plan: dict[str, Any], node: NodeFacts, found: Environment) -> str:
    """As `tensorflow_gpu_check` computes it, with what the role tensorflow_check gives it."""
    return evidence_digest(
        evidence=plan["evidence"],
        additions=found.additions,
        variables=node.variables,
        build=found.build,
        release=plan["release"],
        expect_gpu=plan["verdict"] == "ok",
        gpu_count=len(plan["gpus"]),
        gpu_addresses=[gpu["pci_address"] for gpu in plan["gpus"] if gpu["pci_address"]],
        cudnn_floor=(plan["cudnn"] or {}).get("floor"),
    )
