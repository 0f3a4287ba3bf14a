"""Stack + node + lock -> the plan. Pure.

It is a plain dict, since it travels as a task's result; `files/plan.schema.json` of the role tensorflow_release is its
schema.
"""

from __future__ import annotations

from typing import Any

from ..records.component import COMPONENTS
from ..records.environment import environment_digest
from .node import NodeFacts
from .stack import Driver, Library, LockState, Python, Refusal, Stack
from .steps import make_steps


def make_plan(
    *,
    stack: Stack,
    node: NodeFacts,
    lock: LockState,
    name: str,
    uv: dict[str, Any] | None,
    check_code: str,
    asked: dict[str, Any],
    image: dict[str, Any] | None = None,
    warnings: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The plan of a stack that can be.

    `uv` is the pinned uv that a node of this architecture is given, `check_code` the digest of the check's code,
    `asked` the variables that were set, `image` what is mounted instead of built.
    """
    environment = {**_environment(stack, node, lock, name), "image": image}
    return _plan(
        stack.release.version,
        flavour=stack.flavour,
        python=_python(stack.python),
        repositories=[dict(repository) for repository in stack.repositories],
        driver=stack.driver and _driver(stack.driver),
        **{component: _library(library) for component, library in stack.libraries.items()},
        gpus=[gpu.as_dict() for gpu in stack.gpus],
        other_gpus=[gpu.as_dict() for gpu in stack.other_gpus],
        lock={
            "path": lock.path,
            "directory": lock.directory,
            "state": lock.state,
            "requirements": lock.requirements,
            "architecture": node.architecture,
            "flavour": stack.lock_flavour,
            "added": lock.added.as_dict() if lock.added else None,
        },
        environment=environment,
        asked=asked,
        uv=uv,
        verdict="ok" if stack.flavour == "cuda" else "cpu_only_no_gpu",
        check_seconds=stack.check_seconds,
        evidence=_evidence(stack, node, check_code),
        roles=_roles(stack, lock),
        steps=make_steps(stack, node, lock, environment),
        unused_gpu=stack.unused_gpu,
        warnings=[*([stack.unused_gpu] if stack.unused_gpu else []), *stack.warnings, *warnings],
    )


def refuse(release: str | None, refusals: tuple[Refusal, ...]) -> dict[str, Any]:
    """The plan of a release that cannot be: nothing is done."""
    return _plan(release, refusals=[refusal.as_dict() for refusal in refusals])


def _plan(release: str | None, **parts: Any) -> dict[str, Any]:
    """Every field of a plan; those that are not given are empty."""
    return {
        "release": release,
        **dict.fromkeys(("flavour", "python", "lock", "environment", "uv", "verdict", "check_seconds", "unused_gpu")),
        **dict.fromkeys(component.name for component in COMPONENTS),
        "asked": {},
        "evidence": {},
        **{name: [] for name in ("repositories", "gpus", "other_gpus", "roles", "steps", "warnings", "refusals")},
        **parts,
    }


def _python(python: Python) -> dict[str, Any]:
    return {"minor": python.minor, "source": python.source, "path": python.path, "package": python.package}


def _library(library: Library) -> dict[str, Any]:
    return {
        "version": library.version,
        "source": library.source,
        "floor": library.floor,
        "prefix": library.prefix,
        "packages": [package.as_dict() for package in library.packages],
        "belongs": list(library.belongs),
        "url": library.url,
        "archives": [dict(archive) for archive in library.archives],
    }


def _driver(driver: Driver) -> dict[str, Any]:
    return {
        "source": driver.source,
        "branch": driver.branch,
        "kernel_modules": driver.kernel_modules,
        "kernels": list(driver.kernels) if driver.is_of_system else None,
        "fabric_manager": driver.fabric_manager,
        "stream": driver.stream,
        "packages": [package.as_dict() for package in driver.packages],
        "belongs": list(driver.belongs),
    }


def planned_digest(stack: Stack, lock: LockState) -> str | None:
    """Identity of the environment that is planned; None while its lock is still to be made."""
    if lock.sha256 is None:
        return None
    return environment_digest(
        lock_sha256=lock.sha256,
        python=stack.python.path,
        library_directories=stack.library_directories,
        added=lock.lines,
        visible_gpus=stack.visible_gpus,
    )


def _environment(stack: Stack, node: NodeFacts, lock: LockState, name: str) -> dict[str, Any]:
    directories = stack.library_directories
    return {
        "name": name,
        "root": node.root,
        "path": f"{node.root}/{name}",
        "digest": planned_digest(stack, lock),
        "library_directories": list(directories),
        "visible_gpus": stack.visible_gpus,
    }


def _evidence(stack: Stack, node: NodeFacts, check_code: str) -> dict[str, Any]:
    """What a verdict holds for: a check need not be repeated while this is the same."""
    if stack.flavour == "cpu":
        return {"code": check_code, "gpus": []}
    return {
        "code": check_code,
        "gpus": [f"{gpu.pci_address} {gpu.name}" for gpu in stack.gpus],
        "driver": node.driver.loaded,
        "boot_id": node.boot_id,
    }


def _roles(stack: Stack, lock: LockState) -> list[str]:
    """What has something to do, or something of this toolkit's to look after."""
    parts = stack.parts
    needed = {
        # First: what cannot be resolved is to stop the run before anything is changed on the node.
        "tensorflow_lock": lock.state in ("missing", "stale"),
        "nvidia_repository": bool(stack.repositories),
        **{row.role: row.name in parts and parts[row.name].is_of_system for row in COMPONENTS},
        "python_interpreter": stack.python.source != "found",
    }
    return [role for role, is_needed in needed.items() if is_needed]
