"""Fleets as a run leaves them: most nodes compute, the others failed, each in its own way."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.tensorflow_stack.fleet import entries, summary

WRITTEN_AT = "2026-11-26T10:02:00Z"
# What is on a node before the run, by component.
BEFORE = {"driver": "535.183.01", "cuda": None, "cudnn": None, "python": "3.11.2", "environment": None}
WANTED = {"driver": "535", "cuda": "12.2", "cudnn": "8.9", "python": "3.11", "environment": "2.15.1"}
REFUSAL = {
    "component": "gpu",
    "wanted": "a GPU of compute capability 3.5 or higher",
    "found": "GeForce GT 430 (2.1)",
    "set": "Set tensorflow_gpu to none for an environment that uses the CPU.",
}
CAUSE = {
    "cause": "driver_mismatch",
    "component": "driver",
    "says": "The kernel module and the libraries of the driver are of different versions.",
    "do": "Reboot the node (nvidia_driver_reboot), or unload the module and load the new one.",
    "evidence": ["Failed to initialize NVML: Driver/library version mismatch"],
    "follows": None,
}


def plan_of(actions: dict[str, str] | None = None, *, release: str = "2.15.1", name: str = "") -> dict[str, Any]:
    """A plan that keeps what is not named in `actions`."""
    found = {component: version or WANTED[component] for component, version in BEFORE.items()}
    steps = [
        {
            "component": component,
            "action": (actions or {}).get(component, "keep"),
            "installed": BEFORE[component] if component in (actions or {}) else found[component],
            "wanted": release if component == "environment" else WANTED[component],
            "source": "found",
            "why": "",
        }
        for component in BEFORE
    ]
    name = name or f"tensorflow-{release}"
    return {
        "release": release,
        "flavour": "cuda",
        "environment": {"name": name, "path": f"/opt/tensorflow/{name}"},
        "steps": steps,
        "refusals": [],
        "verdict": "ok",
    }


def refused_plan(release: str = "2.15.1", **refusal: Any) -> dict[str, Any]:
    row = {**REFUSAL, **refusal}
    message = f"{row['component']}: wanted {row['wanted']}; found {row['found']}. {row['set']}"
    return {"release": release, "steps": [], "environment": None, "refusals": [{**row, "message": message}]}


def report_of(plan: dict[str, Any], verdict: str = "ok", error: str | None = None, **given: Any) -> dict[str, Any]:
    causes = given.pop("causes", [])
    reason = "It computed the right numbers on 8 GPUs." if verdict == "ok" else "The versions differ."
    return {
        "release": plan["release"],
        "plan": plan,
        "system": {},
        "done": {"changed": True, "action": "build", "damage": [], "dropped": []},
        "additions": [],
        "check": {"verdict": verdict, "reason": reason, "causes": causes, "checked_at": WRITTEN_AT},
        "error": error,
        "succeeded": error is None and verdict == "ok",
        **given,
    }


def fleet(count: int) -> dict[str, Any]:
    """A fleet of so many nodes of which most compute; from six on, one in ten needs somebody."""
    hosts = [f"gpu{number:0{len(str(count))}}.example.org" for number in range(1, count + 1)]
    install = {"cuda": "install", "cudnn": "install", "environment": "install"}
    drifted = {
        "driver": {
            "changed": True,
            "drift": [
                {"name": "nvidia-driver", "problem": "moved", "recorded": "535.183.01-1", "found": "550.54.14-1"}
            ],
        }
    }
    plans, reports, errors, unreachable, refused = {}, {}, {}, {}, {}
    canary, unchanged, drained = [], [], {}
    for number, host in enumerate(hosts):
        kind = number % 40 if count >= 6 else 0
        plans[host] = [entries.planned_entry(plan_of(install))]
        if kind == 5:
            unreachable[host] = (
                f"Failed to connect to the host via ssh: connect to host {host} port 22: No route to host"
            )
            plans.pop(host)
        elif kind == 11:
            plans[host] = [entries.planned_entry(refused_plan())]
            refused[host] = [refused_plan()["refusals"][0]["message"]]
        elif kind == 17:
            made = report_of(plan_of(install), "driver_mismatch", causes=[CAUSE], error="The check failed.")
            reports[host] = [entries.reported_entry(made, "tensorflow_check")]
            errors[host], drained[host] = "The check failed.", "2026-11-26T09:41:07Z"
            canary.append(host)
        elif kind == 23:
            errors[host] = "cuda: /usr/local has 1.2 GB free, and 4.6 GB are needed. Free space, or set cuda_source."
            made = report_of(plan_of(install), error=errors[host], check=None, done=None)
            reports[host] = [entries.reported_entry(made, "cuda_toolkit")]
            canary.append(host)
        elif kind == 31:
            made = report_of(plan_of({**install, "driver": "change"}), system=drifted)
            reports[host] = [entries.reported_entry(made)]
            canary.append(host)
        elif kind in (37, 38, 39):
            canary.append(host)
        elif kind % 3:
            reports[host] = [entries.reported_entry(report_of(plan_of(), done={"changed": False, "action": "keep"}))]
            unchanged.append(host)
        else:
            reports[host] = [entries.reported_entry(report_of(plan_of(install)))]
            canary.append(host)
    decision = {"canary": canary, "rest": [], "unchanged": unchanged, "refused": refused, "environments": {}}
    return summary.summarise(
        hosts,
        decision=decision,
        plans=plans,
        reports=reports,
        errors=errors,
        unreachable=unreachable,
        drained=drained,
        check_mode=False,
        written_at=WRITTEN_AT,
    )
