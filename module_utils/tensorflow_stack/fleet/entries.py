"""One environment of a node in `fleet.json`: what was planned, done and proven, component by component. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..records.component import COMPONENTS

# What a node has, from the system to the environment. The lock is a file of the controller.
ON_A_NODE = (*(component.name for component in COMPONENTS), "python", "environment")
# What became of a component, in the order in which somebody has to look at it.
VERDICTS = ("failed", "refused", "due", "changed", "ok", "unused")
_CHANGES = ("change", "install", "remove")
# By the role that failed.
_OF_ROLE = {
    **{component.role: component.name for component in COMPONENTS},
    "nvidia_repository": "driver",
    "python_interpreter": "python",
}
# By the component that a cause or a refusal names, where it is not the component itself.
_OF_CAUSE = {"gpu": "driver", "kernel": "driver"}


def blamed(name: str | None) -> str:
    """The component to show a fault at, by the name that a cause, a refusal or a role has for it."""
    known = _OF_ROLE.get(name or "") or _OF_CAUSE.get(name or "") or name
    return known if known in ON_A_NODE else "environment"


def planned_entry(
    plan: Mapping[str, Any], node: Mapping[str, Any] | None = None, kept: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Of an environment that is planned only. `node` says what it was before, `kept` whether it is as planned."""
    name = (plan.get("environment") or {}).get("name")
    before = next((one for one in (node or {}).get("environments") or () if one["name"] == name), None)
    drifts: dict[str, list[str]] = {}
    # A first install is no drift, and neither is another release.
    if before and before["release"] == plan["release"]:
        drifts = {
            step["component"]: [f"found {step['installed']}, wanted {step['wanted']}"]
            for step in plan["steps"]
            if step["action"] in _CHANGES and step["installed"] and step["component"] != "environment"
        }
        drifts["environment"] = list(before["damage"] or ())
    return _entry(plan, drifts=drifts, is_whole=bool(kept is None or kept["environment"]))


def reported_entry(report: Mapping[str, Any], failed_role: str | None = None) -> dict[str, Any]:
    """Of an environment with a report of a run; report.schema.json is its schema."""
    plan, check, done = report["plan"] or {}, report["check"] or {}, report["done"] or {}
    causes = check.get("causes") or []
    is_done = report["succeeded"]
    fault = None
    if not is_done and (report["error"] or causes):
        fault = blamed(causes[0]["component"] if causes else failed_role)
    return {
        **_entry(plan, drifts=_drifts(report), is_done=is_done, fault=fault),
        "release": report["release"],
        "action": done.get("action"),
        "changed": bool(done.get("changed")) or any(part.get("changed") for part in report["system"].values()),
        "verdict": check.get("verdict"),
        "reason": check.get("reason"),
        "causes": [{name: cause[name] for name in ("cause", "component", "says", "do")} for cause in causes],
        "checked_at": check.get("checked_at"),
        "succeeded": is_done,
    }


def _entry(
    plan: Mapping[str, Any],
    *,
    drifts: Mapping[str, Sequence[str]],
    is_done: bool = False,
    is_whole: bool = True,
    fault: str | None = None,
) -> dict[str, Any]:
    environment = plan.get("environment") or {}
    # A plan that could not be made has its error for a refusal, in which nothing was compared.
    refusals = [refusal for refusal in plan.get("refusals") or () if refusal["message"] != refusal["found"]]
    steps = {step["component"]: step for step in plan.get("steps") or ()}
    refused = {blamed(refusal["component"]) for refusal in refusals}
    names = [name for name in ON_A_NODE if name in steps or name in refused or name == fault or drifts.get(name)]
    return {
        "name": environment.get("name"),
        "release": plan.get("release"),
        "flavour": plan.get("flavour"),
        "path": environment.get("path"),
        "action": None,
        "changed": False,
        "verdict": None,
        "reason": None,
        "causes": [],
        "checked_at": None,
        "succeeded": False,
        "refusals": [
            {name: refusal[name] for name in ("component", "wanted", "found", "set", "message")} for refusal in refusals
        ],
        "components": [
            {
                **_of_step(steps.get(name, {})),
                "component": name,
                "verdict": _verdict(
                    steps.get(name),
                    is_done=is_done,
                    is_whole=is_whole or name != "environment",
                    fault="refused" if name in refused else "failed" if name == fault else None,
                ),
                "drift": list(drifts.get(name, ())),
            }
            for name in names
        ],
    }


def _of_step(step: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "found": step.get("installed"),
        "wanted": step.get("wanted"),
        "action": step.get("action"),
        "source": step.get("source"),
    }


def _verdict(step: Mapping[str, Any] | None, *, is_done: bool, is_whole: bool, fault: str | None) -> str:
    if fault:
        return fault
    if step is None or step["action"] == "skip":
        return "unused"
    if step["action"] == "keep" and is_whole:
        return "ok"
    return "changed" if is_done else "due"


def _drifts(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """What differed from what this toolkit had installed, by component."""
    found: dict[str, list[str]] = {}
    for part, result in report["system"].items():
        if result.get("drift"):
            found.setdefault(blamed(part.partition("_")[0]), []).extend(map(_drift_text, result["drift"]))
    done = report["done"] or {}
    found["environment"] = [
        *(str(damage) for damage in done.get("damage") or ()),
        *(f"{addition} was added" for addition in report["additions"]),
        *(f"{addition} was dropped" for addition in done.get("dropped") or ()),
    ]
    return found


def _drift_text(drift: Any) -> str:
    """Of a package a mapping, of an archive a sentence."""
    if not isinstance(drift, Mapping):
        return str(drift)
    versions = [f"{key} {drift[key]}" for key in ("recorded", "found") if drift.get(key)]
    return ", ".join([f"{drift['name']}: {drift['problem']}", *versions])
