"""Stack + node + lock -> the plan: one step for each component, with what is there, what is wanted and why.

Pure. The plan is a plain dict, since it travels as a task's result; `files/plan.schema.json` of the role
tensorflow_release is its schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from ..records.environment import environment_digest
from ..records.lockfile import Lock
from .stack import Driver, Library, Package, Refusal, Stack

# What the paths of the table `redist` are below.
REDIST_URL = "https://developer.download.nvidia.com/compute/"

COMPONENTS = ("driver", "cuda", "cudnn", "python", "lock", "environment")


@dataclass(frozen=True)
class LockState:
    """The lock that the environment is built from, as it is on the controller."""

    path: str
    directory: str  # where it is made, if it has to be
    state: str  # ready, missing, stale; applied: it lies in the build on the node
    lock: Lock | None
    requirements: str | None = None  # the user's file that goes into it
    applied_sha256: str | None = None

    @property
    def sha256(self) -> str | None:
        return self.lock.sha256 if self.lock else self.applied_sha256


def make_plan(
    *,
    stack: Stack,
    node: dict[str, Any],
    lock: LockState,
    root: str,
    name: str,
    uv: dict[str, Any] | None,
    warnings: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The plan of a stack that can be. `uv` is the pinned uv that a node of this architecture is given."""
    environment = _environment(stack, node, lock, root, name)
    return {
        **_empty_plan(stack.release.version),
        "package": {"name": stack.package, "version": stack.release.version},
        "flavour": stack.flavour,
        "python": stack.python.as_dict(),
        "repositories": [dict(repository) for repository in stack.repositories],
        "cuda": stack.cuda and _library(stack.cuda),
        "cudnn": stack.cudnn and {**_library(stack.cudnn), "floor": stack.release.cudnn_floor},
        "driver": stack.driver and _driver(stack.driver),
        "gpus": [gpu.as_dict() for gpu in stack.gpus],
        "lock": {
            "path": lock.path,
            "directory": lock.directory,
            "state": lock.state,
            "requirements": lock.requirements,
            "architecture": node["architecture"],
            "flavour": stack.lock_flavour,
        },
        "environment": environment,
        "uv": uv,
        "verdict": "ok" if stack.flavour == "cuda" else "cpu_only_no_gpu",
        "evidence": _evidence(stack, node),
        "roles": _roles(stack, lock),
        "steps": _steps(stack, node, lock, environment),
        "unused_gpu": stack.unused_gpu,
        "warnings": [*([stack.unused_gpu] if stack.unused_gpu else []), *stack.warnings, *warnings],
    }


def refuse(release: str | None, refusals: tuple[Refusal, ...]) -> dict[str, Any]:
    """The plan of a release that cannot be: nothing is done."""
    return {**_empty_plan(release), "refusals": [refusal.as_dict() for refusal in refusals]}


def _empty_plan(release: str | None) -> dict[str, Any]:
    return {
        "schema": 1,
        "release": release,
        "package": None,
        "flavour": None,
        "python": None,
        "repositories": [],
        "cuda": None,
        "cudnn": None,
        "driver": None,
        "gpus": [],
        "lock": None,
        "environment": None,
        "uv": None,
        "verdict": None,
        "evidence": {},
        "roles": [],
        "steps": [],
        "unused_gpu": None,
        "warnings": [],
        "refusals": [],
    }


def _library(library: Library) -> dict[str, Any]:
    return {
        "version": library.version,
        "source": library.source,
        "prefix": library.prefix,
        "packages": [package.as_dict() for package in library.packages],
        "belongs": list(library.belongs),
        "url": REDIST_URL if library.archives else None,
        "archives": [dict(archive) for archive in library.archives],
    }


def _driver(driver: Driver) -> dict[str, Any]:
    return {
        "floor": driver.floor,
        "installed": driver.installed,
        "loaded": driver.loaded,
        "source": driver.source,
        "branch": driver.branch,
        "version": driver.version,
        "kernel_modules": driver.kernel_modules,
        "fabric_manager": driver.fabric_manager,
        "stream": driver.stream,
        "packages": [package.as_dict() for package in driver.packages],
        "belongs": list(driver.belongs),
    }


def _environment(stack: Stack, node: dict[str, Any], lock: LockState, root: str, name: str) -> dict[str, Any]:
    directories = stack.library_directories
    digest = None
    if lock.sha256 is not None:
        digest = environment_digest(lock_sha256=lock.sha256, python=stack.python.path, library_directories=directories)
    return {
        "name": name,
        "root": root,
        "path": f"{root}/{name}",
        "digest": digest,
        "library_directories": list(directories),
    }


def _evidence(stack: Stack, node: dict[str, Any]) -> dict[str, Any]:
    """What a verdict holds for: a check need not be repeated while this is the same."""
    if stack.flavour == "cpu":
        return {"gpus": []}
    return {
        "gpus": [row["device_id"] for row in node["gpus"]],
        "driver": node["driver"]["loaded"],
        "boot_id": node["boot_id"],
    }


def _roles(stack: Stack, lock: LockState) -> list[str]:
    """What has something to do, or something of this toolkit's to look after."""
    needed = {
        "nvidia_repository": bool(stack.repositories),
        "nvidia_driver": bool(stack.driver and stack.driver.source != "found"),
        "cuda_toolkit": bool(stack.cuda and stack.cuda.is_of_system),
        "cudnn": bool(stack.cudnn and stack.cudnn.is_of_system),
        "tensorflow_lock": lock.state in ("missing", "stale"),
        "python_interpreter": stack.python.source != "found",
    }
    return [role for role, is_needed in needed.items() if is_needed]


# -------------------------------------------------------------------------------------------------- steps


def _step(component: str, action: str, why: str, **values: Any) -> dict[str, Any]:
    return {
        "component": component,
        "installed": None,
        "wanted": None,
        "action": action,
        "direction": "none",
        "source": None,
        "packages": [],
        "bytes": 0,
        "needs_root": False,
        "needs_reboot": False,
        "why": why,
        **values,
    }


def _steps(stack: Stack, node: dict[str, Any], lock: LockState, environment: dict[str, Any]) -> list[dict[str, Any]]:
    current = _current(node)
    return [
        _driver_step(stack, node),
        _library_step("cuda", stack.cuda, node, current),
        _library_step("cudnn", stack.cudnn, node, current),
        _python_step(stack),
        _lock_step(lock),
        _environment_step(stack, node, lock, environment, current),
    ]


def _current(node: dict[str, Any]) -> dict[str, Any] | None:
    """The environment that was applied last: what a direction is measured against."""
    last = (node["manifest"] or {}).get("current")
    environments = node["environments"]
    return next((e for e in environments if e["name"] == last), environments[-1] if environments else None)


def _direction(installed: str | None, wanted: str) -> str:
    if installed is None:
        return "none"
    if Version(installed) == Version(wanted):
        return "same"
    return "up" if Version(installed) < Version(wanted) else "down"


def _no_gpu(stack: Stack, node: dict[str, Any]) -> str:
    if stack.unused_gpu:
        return "no NVIDIA GPU on the PCI bus: a CPU environment (see the warning)"
    return "tensorflow_gpu is none" if node["gpus"] else "no NVIDIA GPU on this node: a CPU environment"


def _driver_step(stack: Stack, node: dict[str, Any]) -> dict[str, Any]:
    if stack.driver is None or stack.cuda is None:
        return _step("driver", "skip", _no_gpu(stack, node), installed=node["driver"]["installed"])
    driver = stack.driver
    if driver.source == "found":
        values = {"wanted": f">={driver.floor}", "installed": driver.loaded or driver.installed}
    else:
        values = {"wanted": driver.version, "installed": driver.installed}
    return _step(
        "driver",
        driver.action,
        driver.why,
        **values,
        direction=driver.direction,
        source=driver.source,
        packages=_asked_for(driver.packages),
        needs_root=driver.source != "found",
        needs_reboot=driver.needs_reboot,
    )


def _asked_for(packages: tuple[Package, ...]) -> list[str]:
    return [f"{package.name}={package.version}" if package.version else package.name for package in packages]


def _library_step(
    component: str, library: Library | None, node: dict[str, Any], current: dict[str, Any] | None
) -> dict[str, Any]:
    there = current[component] if current else None
    installed = there["version"] if there else None
    if library is None:
        return _step(component, "skip", "the environment is for the CPU", installed=installed)
    values: dict[str, Any] = {
        "installed": installed,
        "wanted": library.version,
        "direction": _direction(installed, library.version),
        "source": library.source,
    }
    if library.is_of_system:
        return _system_step(component, library, node, values)
    if library.source == "found":
        values.update(installed=library.version, direction="same")
        return _step(component, "keep", "on the node already; the environment is bound to it", **values)
    if current and there and (there["version"], there["source"]) == (library.version, "wheels"):
        return _step(component, "keep", f"the wheels that {current['name']} has, too", **values)
    beside = f"; that of {current['name']} stays as it is" if current and there else ""
    return _step(component, "install", f"wheels inside the environment{beside}", **values)


def _system_step(component: str, library: Library, node: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Of a library that this toolkit installs on the node."""
    values.update(packages=_asked_for(library.packages), needs_root=True)
    managed = node["managed"].get(component)
    if library.is_there and managed and managed["source"] == library.source:
        values.update(installed=library.version, direction="same")
        return _step(
            component, "keep", "installed by this toolkit; compared with its record when it is applied", **values
        )
    values["bytes"] = sum(archive["bytes"] or 0 for archive in library.archives)
    where = {
        "nvidia_repo": "packages of NVIDIA's repository",
        "distro": "packages of the distribution",
        "redist": f"NVIDIA's archives, in {library.prefix}",
    }[library.source]
    return _step(component, "install", where, **values)


def _python_step(stack: Stack) -> dict[str, Any]:
    python = stack.python
    if python.source == "found":
        return _step(
            "python",
            "keep",
            f"{python.path} is there",
            installed=python.version or python.minor,
            wanted=python.minor,
            direction="same",
            source="found",
        )
    why = {
        "distro": f"no Python {python.minor} here; the distribution has the package {python.package}",
        "uv": f"no Python {python.minor} here; uv fetches a build of its own beside the environments",
    }[python.source]
    return _step(
        "python",
        "install",
        why,
        wanted=python.minor,
        source=python.source,
        packages=[python.package] if python.package else [],
        needs_root=python.source == "distro",
    )


def _lock_step(lock: LockState) -> dict[str, Any]:
    if lock.state in ("ready", "applied"):
        return _step("lock", "keep", lock.path, source="found")
    why = {
        "missing": f"there is no lock at {lock.path} yet: it is made from the package index first",
        "stale": f"what goes into {lock.path} has changed since it was made: it is made anew first",
    }[lock.state]
    return _step("lock", "install" if lock.state == "missing" else "change", why, source="index")


def _environment_step(
    stack: Stack,
    node: dict[str, Any],
    lock: LockState,
    environment: dict[str, Any],
    current: dict[str, Any] | None,
) -> dict[str, Any]:
    existing = next((e for e in node["environments"] if e["name"] == environment["name"]), None)
    before = existing or current
    wanted = stack.release.version
    values: dict[str, Any] = {
        "installed": before["release"] if before else None,
        "wanted": wanted,
        "direction": _direction(before["release"] if before else None, wanted),
        "source": "lock",
    }
    if existing and existing["digest"] == environment["digest"]:
        why = f"{existing['build']} was made from this lock; its files are compared when it is applied"
        return _step("environment", "keep", why, **values)
    if lock.lock is not None:
        values["packages"] = _package_changes(existing["packages"] if existing else {}, lock.lock.packages)
        values["bytes"] = _bytes_to_fetch(node, lock.lock)
    if existing:
        return _step("environment", "change", f"built anew beside {existing['build']} and switched to", **values)
    others = [e["name"] for e in node["environments"]]
    beside = (
        f"; {', '.join(others)} stay{'s' if len(others) == 1 else ''} as {'it is' if len(others) == 1 else 'they are'}"
    )
    return _step("environment", "install", "not there yet" + (beside if others else ""), **values)


def _package_changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    changes = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is None:
            changes.append(f"{name}=={new}")
        elif new is None:
            changes.append(f"{name}=={old} -> removed")
        elif old != new:
            changes.append(f"{name}=={old} -> {new}")
    return changes


def _bytes_to_fetch(node: dict[str, Any], lock: Lock) -> int:
    held = {item for environment in node["environments"] for item in environment["packages"].items()}
    return sum(d.bytes for d in lock.distributions if (d.name, d.version) not in held)


# -------------------------------------------------------------------------------------------------- table


def render_table(plan: dict[str, Any]) -> str:
    """The plan for a person: one line a step, then warnings and refusals."""
    if plan["refusals"]:
        is_kept = all(refusal["component"] == "environment" for refusal in plan["refusals"])
        problem = "would replace what is here" if is_kept else "cannot run here"
        lines = [f"TensorFlow {plan['release'] or '(newest)'} {problem}; nothing will be done."]
        lines += [f"  - {refusal['message']}" for refusal in plan["refusals"]]
        nearest = plan["refusals"][0]["nearest_release"]
        return "\n".join(lines + ([f"The nearest release that would run here is {nearest}."] if nearest else []))
    rows = [("component", "installed", "wanted", "action", "fetch", "why")]
    for step in plan["steps"]:
        action = step["action"] + (f" ({step['direction']})" if step["direction"] in ("up", "down") else "")
        fetch = f"{step['bytes'] / 1e6:,.0f} MB" if step["bytes"] else ""
        marks = [mark for mark in ("root", "reboot") if step[f"needs_{mark}"]]
        why = step["why"] + (f" (needs {' and '.join(marks)})" if marks else "")
        rows.append((step["component"], step["installed"] or "-", step["wanted"] or "-", action, fetch, why))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[5]]).rstrip() for row in rows]
    title = f"TensorFlow {plan['release']} ({plan['flavour']}) at {plan['environment']['path']}"
    return "\n".join([title, *lines, *(f"warning: {warning}" for warning in plan["warnings"])])
