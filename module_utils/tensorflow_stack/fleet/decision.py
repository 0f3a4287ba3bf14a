"""What a run does to a fleet, from the plans of all its nodes. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import StackError

# One environment of a node, as an item of `fleet_environments`; each stands for the inventory variable of its name.
KEYS = ("version", "requirements", "environment", "image", "python", "gpu", "cuda_source", "cudnn_source")
_SHOWN = 10


@dataclass(frozen=True)
class Decision:
    """Hosts by what becomes of them, in the order of the inventory. Each host is in one of them."""

    # What a host says that cannot have what is asked for.
    refused: Mapping[str, Sequence[str]]
    # Hosts without a plan: not reached, or their variables are wrong. They have said so themselves.
    unplanned: Sequence[str]
    # One of each distinct kind of node.
    canary: Sequence[str]
    rest: Sequence[str]
    unchanged: Sequence[str]
    # Hosts that a run before this one drained and did not undrain. They are among `canary` and `rest`, if they can be.
    drained: Mapping[str, str] = field(default_factory=dict)


def decide(
    hosts: Iterable[str], planned: Mapping[str, Sequence[Mapping[str, Any]]], drained: Mapping[str, str]
) -> Decision:
    """`planned` has for each host the `plan`, `kept` and `kind` of each of its environments; `drained`, since when."""
    refused: dict[str, list[str]] = {}
    unplanned: list[str] = []
    canary: list[str] = []
    rest: list[str] = []
    unchanged: list[str] = []
    kinds: set[str] = set()
    for host in hosts:
        environments = planned.get(host)
        if not environments:
            unplanned.append(host)
            continue
        refusals = [refusal["message"] for one in environments for refusal in one["plan"]["refusals"]]
        refusals += _shared_names(environments)
        if refusals:
            refused[host] = refusals
        elif all(_is_done(one["kept"]) for one in environments) and host not in drained:
            unchanged.append(host)
        else:
            kind = json.dumps([one["kind"] for one in environments], sort_keys=True)
            (rest if kind in kinds else canary).append(host)
            kinds.add(kind)
    return Decision(refused, unplanned, canary, rest, unchanged, dict(drained))


def _shared_names(environments: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [one["plan"]["environment"]["name"] for one in environments if one["plan"].get("environment")]
    return [
        f"fleet_environments has {names.count(name)} items named {name}. Give each a name of its own (environment)."
        for name in sorted({name for name in names if names.count(name) > 1})
    ]


def _is_done(kept: Mapping[str, Any]) -> bool:
    return bool(kept["environment"] and kept["check"])


def kind_of(plan: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two nodes of different kinds: whatever may make the same change end otherwise."""
    return {
        "architecture": node["architecture"],
        "os": [node["os"]["id"], node["os"]["version_id"]],
        "kernel": node["kernel"]["release"],
        "kinds": sorted([kind["aspect"], kind["kind"]] for kind in node["kinds"]),
        "driver": [node["driver"]["loaded"], node["driver"]["installed"]],
        "gpus": sorted(str(gpu["device_id"]) for gpu in node["gpus"]),
        "release": plan["release"],
        "flavour": plan["flavour"],
        "python": plan["python"] and [plan["python"]["minor"], plan["python"]["source"]],
        "steps": [
            [step["component"], step["action"], step["installed"], step["wanted"], step["source"]]
            for step in plan["steps"]
        ],
    }


def refuse_fleet(decision: Decision, *, skip_refused: bool) -> str | None:
    """Why nothing is changed anywhere, if so."""
    if skip_refused or not (decision.refused or decision.unplanned):
        return None
    lines = [f"{host}: {messages[0]}" for host, messages in decision.refused.items()]
    lines += [f"{host}: not reached, or its variables are wrong; see above" for host in decision.unplanned]
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    count = len(decision.refused) + len(decision.unplanned)
    return "\n".join(
        [
            f"Nothing was changed on any node, because {count} of them cannot have what is asked for:",
            *lines[:_SHOWN],
            *more,
            "Set fleet_skip_refused to true to leave these out, or --limit to choose the others.",
        ]
    )


def check_environments(environments: Any) -> None:
    """Raises StackError unless `environments` is a list of mappings of known keys."""
    if not isinstance(environments, list) or not environments:
        raise StackError(
            f"fleet_environments must be a list of at least one environment, each a mapping of {', '.join(KEYS)}."
        )
    for number, one in enumerate(environments, 1):
        if not isinstance(one, Mapping):
            raise StackError(f"fleet_environments, item {number}: expected a mapping, found {one!r}.")
        unknown = sorted(set(map(str, one)) - set(KEYS))
        if unknown:
            raise StackError(
                f"fleet_environments, item {number}: {', '.join(unknown)} is unknown. Known are {', '.join(KEYS)}."
            )
