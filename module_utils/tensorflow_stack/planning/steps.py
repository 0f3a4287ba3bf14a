"""The steps of a plan: of each component what is there, what is wanted, and why. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packaging.version import Version

from ..records.component import LIBRARIES
from ..records.lockfile import Lock
from .no_gpu import no_gpu, other_gpus
from .node import Environment, NodeFacts
from .stack import Library, LockState, Package, Stack


def make_steps(stack: Stack, node: NodeFacts, lock: LockState, environment: dict[str, Any]) -> list[dict[str, Any]]:
    """One for each component of the system, then Python, the lock and the environment: always all."""
    return [
        _driver_step(stack, node),
        *(
            _library_step(component.name, stack.libraries.get(component.name), node, environment)
            for component in LIBRARIES
        ),
        _python_step(stack),
        _lock_step(lock),
        _environment_step(stack, node, lock, environment),
    ]


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


def _direction(installed: str | None, wanted: str) -> str:
    if installed is None:
        return "none"
    if Version(installed) == Version(wanted):
        return "same"
    return "up" if Version(installed) < Version(wanted) else "down"


def _no_gpu(stack: Stack, node: NodeFacts) -> str:
    if stack.unused_gpu:
        return f"{no_gpu(node)}: a CPU environment (see the warning)"
    return "tensorflow_gpu is none" if node.gpus else f"no NVIDIA GPU on this node{other_gpus(node)}: a CPU environment"


def _driver_step(stack: Stack, node: NodeFacts) -> dict[str, Any]:
    driver = stack.driver
    if driver is None:
        return _step("driver", "skip", _no_gpu(stack, node), installed=node.driver.installed)
    if driver.is_of_system:
        values = {"wanted": driver.version, "installed": driver.installed}
    else:
        values = {"wanted": f">={driver.floor}", "installed": driver.present}
    return _step(
        "driver",
        driver.action,
        driver.why,
        **values,
        direction=driver.direction,
        source=driver.source,
        packages=_asked_for(driver.packages),
        needs_root=driver.is_of_system,
        needs_reboot=driver.needs_reboot,
    )


def _asked_for(packages: tuple[Package, ...]) -> list[str]:
    return [f"{package.name}={package.version}" if package.version else package.name for package in packages]


def _library_step(
    component: str, library: Library | None, node: NodeFacts, environment: dict[str, Any]
) -> dict[str, Any]:
    # Of the environment itself, if there is one: what was applied last may be another one, or gone.
    current = node.environment(environment["name"]) or node.current_environment
    there = current.libraries.get(component) if current else None
    installed = there.version if there else None
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
        return _step(component, "keep", "on the node already; the environment uses it", **values)
    if current and there and (there.version, there.source) == (library.version, "wheels"):
        is_itself = current.name == environment["name"]
        why = "the wheels that the environment has" if is_itself else f"the wheels that {current.name} has, too"
        return _step(component, "keep", why, **values)
    beside = f"; that of {current.name} is not changed" if current and there else ""
    return _step(component, "install", f"wheels inside the environment{beside}", **values)


def _system_step(component: str, library: Library, node: NodeFacts, values: dict[str, Any]) -> dict[str, Any]:
    """Of a library that this toolkit installs on the node."""
    values.update(packages=_asked_for(library.packages), needs_root=True)
    managed = node.managed.get(component)
    if library.is_there and managed and managed.source == library.source:
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
            f"{python.path} exists",
            installed=python.version or python.minor,
            wanted=python.minor,
            direction="same",
            source="found",
        )
    why = {
        "distro": f"no Python {python.minor} here; the distribution has the package {python.package}",
        "uv": f"no Python {python.minor} here; uv downloads one from {' or '.join(python.places)}",
    }[python.source]
    return _step(
        "python",
        "install",
        why,
        wanted=python.minor,
        source=python.source,
        packages=[python.package] if python.package else [],
        bytes=python.bytes,
        needs_root=python.source == "distro",
    )


def _lock_step(lock: LockState) -> dict[str, Any]:
    if lock.state in ("ready", "applied"):
        return _step("lock", "keep", lock.path, source="found")
    why = {
        "missing": f"there is no lock at {lock.path} yet: it is made from the package index first",
        "stale": f"the inputs of {lock.path} have changed: it is made again first",
    }[lock.state]
    return _step("lock", "install" if lock.state == "missing" else "change", why, source="index")


def _environment_step(
    stack: Stack,
    node: NodeFacts,
    lock: LockState,
    environment: dict[str, Any],
) -> dict[str, Any]:
    existing = node.environment(environment["name"])
    before = existing or node.current_environment
    wanted = stack.release.version
    values: dict[str, Any] = {
        "installed": before.release if before else None,
        "wanted": wanted,
        "direction": _direction(before.release if before else None, wanted),
        "source": "lock",
    }
    image = environment["image"]
    is_wanted = existing and existing.digest == environment["digest"]
    if existing and is_wanted and not existing.damage and (image is None or existing.image == image["sha256"]):
        compared = "its files are compared when it is applied" if existing.damage is None else "its files are unchanged"
        return _step("environment", "keep", f"{existing.build} was made from this lock; {compared}", **values)
    if image:
        return _image_step(existing, image, values)
    if lock.lock is not None:
        values["packages"] = _package_changes(existing.packages if existing else {}, lock.lock.packages)
        values["bytes"] = _bytes_to_fetch(node, lock.lock)
    if existing and existing.damage and is_wanted:
        why = f"{existing.build} is damaged ({existing.damage[0]}): an undamaged build of this lock replaces it"
        return _step("environment", "change", why, **values)
    if existing:
        return _step("environment", "change", f"a new build replaces {existing.build}", **values)
    others = [row.name for row in node.environments]
    beside = (
        f"; {', '.join(others)} stay{'s' if len(others) == 1 else ''} as {'it is' if len(others) == 1 else 'they are'}"
    )
    return _step("environment", "install", "does not exist yet" + (beside if others else ""), **values)


def _image_step(existing: Environment | None, image: Mapping[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    protected = {
        "dm-verity": "the kernel compares each block when it is read (dm-verity)",
        "compared": "all of it is compared each time before it is mounted (this node has no dm-verity)",
    }[image["protection"]]
    values.update(source="image", bytes=image["bytes"], needs_root=True)
    instead = f" replaces {existing.build}" if existing else " is mounted"
    why = f"the image {image['source']}{instead}; {protected}"
    return _step("environment", "change" if existing else "install", why, **values)


def _package_changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
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


def _bytes_to_fetch(node: NodeFacts, lock: Lock) -> int:
    held = {f"{name}=={version}" for row in node.environments for name, version in row.packages.items()} | node.cached
    return sum(d.bytes for d in lock.distributions if f"{d.name}=={d.version}" not in held)
