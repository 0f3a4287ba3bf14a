"""What was applied to a node before: planning it again as it was, and what another plan would lose of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from ..errors import StackError
from ..records.additions import CARRY, WAYS_OUT, listed, lost_additions, projects_of
from ..records.distributions import normalised
from .added import is_built_anew
from .node import Environment, NodeFacts
from .stack import LockState, Policy, Refusal, Stack, lock_flavour

_SHOWN_LINES = 5
_CUDNN_SOURCES = ("found", "wheels", "nvidia_repo", "redist")


def find_applied(node: NodeFacts, name: str | None) -> Environment:
    """The environment of that name, else the one that was applied last."""
    row = node.environment(name) if name else node.current_environment
    if row is not None:
        return row
    there = ", ".join(row.name for row in node.environments)
    if not there:
        raise StackError(
            f"There is no environment{f' {name}, nor any other,' if name else ''} below {node.root}. Build one first "
            "(make workstation TENSORFLOW=), or set tensorflow_root to the directory of yours."
        )
    if name:
        raise StackError(f"There is no environment {name} below {node.root}; there are: {there}.")
    raise StackError(
        f"It is unknown which environment below {node.root} was applied last. Set tensorflow_environment to one of "
        f"{there}."
    )


def refuse_root(node: NodeFacts, made: dict[str, Any]) -> tuple[Refusal, ...]:
    """A build that the user of the run may not write, before anything else is done for it."""
    if node.root_is_writable or made["steps"][-1]["action"] not in ("install", "change"):
        return ()
    refusal = Refusal(
        "root",
        found=f"{node.root}, which cannot be written by {node.user_name}",
        wanted=f"a directory for {made['environment']['name']}",
        set="Set tensorflow_root to a directory of yours, or run as the owner of this one or as root.",
    )
    return (refusal,)


def policy_as_applied(policy: Policy, row: Environment) -> Policy:
    """What the inventory leaves open is as it was when the environment was built."""
    policy = policy.with_asked(row.asked or {})
    changes: dict[str, Any] = {}
    if policy.gpu == "auto" and row.flavour == "cpu":
        changes["gpu"] = "none"
    cuda, cudnn = row.libraries.get("cuda"), row.libraries.get("cudnn")
    if policy.cuda_source == "auto" and cuda:
        changes["cuda_source"] = cuda.source
    if policy.cudnn_source == "auto" and cudnn and cudnn.source in _CUDNN_SOURCES:
        changes["cudnn_source"] = cudnn.source
    if not policy.python:
        changes["python"] = row.python
    return replace(policy, **changes)


def refuse_lost_gpu(row: Environment, stack: Stack, policy: Policy) -> tuple[Refusal, ...]:
    """An environment of the GPU is no CPU environment because the GPU is gone."""
    if policy.gpu != "auto" or row.flavour != "cuda" or stack.flavour == "cuda":
        return ()
    refusal = Refusal(
        "gpu",
        found="no NVIDIA GPU on this node",
        wanted=f"the GPU that {row.name} was built for",
        set="Run make doctor to find out why it is missing. For the CPU, set tensorflow_gpu to none and "
        "tensorflow_version to the release.",
    )
    return (refusal,)


def warn_of_gpus(row: Environment, node: NodeFacts, policy: Policy) -> tuple[str, ...]:
    if policy.gpu != "auto" or row.flavour != "cpu" or not node.gpus:
        return ()
    return (f"{row.name} was built for the CPU, and this node has a GPU: name the release to plan for that.",)


def lock_as_applied(row: Environment, stack: Stack, root: str) -> LockState | None:
    """The lock that lies in the build; None where another Python or CUDA is planned than it is for."""
    if (row.python, lock_flavour(stack.release, row.libraries)) != (stack.python.minor, stack.lock_flavour):
        if row.requirements_path:
            raise StackError(
                f"{root}/{row.name} was applied with {row.requirements_path}, for Python {row.python} and "
                f"{row.flavour}. Set tensorflow_requirements to that file to have it for another one."
            )
        return None
    directory = f"{root}/.builds/{row.build}"
    path = f"{directory}/lock.txt"
    return LockState(path, directory, "applied", None, row.requirements_path, row.lock_sha256, row.added)


@dataclass(frozen=True)
class Claim:
    """On the name of an environment: by a requirements file, or by the release alone."""

    is_named: bool  # the user gave the environment its name
    file: str | None = None
    lines: frozenset[str] = frozenset()
    is_same_file: bool = False  # as was applied, by whatever path it was reached


def find_losses(
    row: Environment | None,
    *,
    environment: dict[str, Any],
    lock: LockState,
    claim: Claim,
    supplied: Collection[str],
) -> tuple[tuple[Refusal, ...], tuple[str, ...]]:
    """Refusals, and warnings, for what is in an environment (`row`) and would not be in the one that is planned.

    `supplied` are projects of the release and of the tables.
    """
    if row is None:
        return (), ()
    path, digest = environment["path"], environment["digest"]
    is_same = row.digest == digest
    named = projects_of(lock.lines)
    refusals: list[Refusal] = []
    warnings: tuple[str, ...] = ()
    if not is_same and lock.state != "applied":
        refusals += _replaced_file(row, path, claim, supplied)
        warnings += _replaced_release(row, path, claim)
    additions = row.additions
    if not additions or not is_built_anew(row, digest):
        return tuple(refusals), warnings
    if is_same or lock.state == "applied":
        lost = lost_additions(additions, row.packages, named=named)
    elif lock.lock is not None:
        lost = lost_additions(additions, lock.lock.packages, named=named)
    else:
        # What the lock will hold is not known before it is made. A file is in none.
        lost = [addition for addition in additions if addition.version is None]
        sure = {*named, *projects_of(lock.added.pins if lock.added else ())}
        open_ones = [row for row in additions if row not in lost and normalised(row.name) not in sure]
        if open_ones:
            warnings += (
                f"Somebody added to {path}: {listed(open_ones)}. The run stops before it builds if the lock that is "
                "made first is without them.",
            )
    if lost:
        why = "it is damaged and must be repaired" if is_same else "its lock, interpreter or CUDA changes"
        refusals.append(
            Refusal(
                "environment",
                found=f"additions in {path} that a new build would lose: {listed(lost)}",
                wanted=f"a new build of it ({why})",
                set=WAYS_OUT if any(addition.version is None for addition in lost) else f"{CARRY} {WAYS_OUT}",
            )
        )
    return tuple(refusals), warnings


def _replaced_file(row: Environment, path: str, claim: Claim, supplied: Collection[str]) -> list[Refusal]:
    """One file's environment is not replaced by another's, or by the release alone, because they share a name.

    A file that was moved or renamed is the same one as long as it has the same lines.
    """
    before = row.requirements_path
    asked = users_lines(row, supplied)
    if claim.file is None:
        is_replaced = bool(before or (not row.is_requirements_path_recorded and asked))
    else:
        is_same = claim.is_same_file or set(asked) == {line for line in claim.lines if _is_users(line, supplied)}
        is_replaced = bool(before) and not is_same and not claim.is_named
    if not is_replaced:
        return []
    shown = ", ".join(asked[:_SHOWN_LINES]) + (", ..." if len(asked) > _SHOWN_LINES else "")
    file = before or "a requirements file"
    replacing = f"to {row.name}" if claim.file else "tensorflow_additions to drop"
    return [
        Refusal(
            "environment",
            found=f"{path} was applied with {file}" + (f" ({shown})" if shown else ""),
            wanted=f"the same name for {claim.file or 'the release alone'}",
            set="Set tensorflow_requirements to that file, tensorflow_environment to a name for the new one, or "
            f"{replacing} to replace what is in it.",
        )
    ]


def users_lines(row: Environment, supplied: Collection[str]) -> list[str]:
    """Lines of its lock's requirements that a requirements file had."""
    return [line for line in row.requirements if _is_users(line, supplied)]


def _replaced_release(row: Environment, path: str, claim: Claim) -> tuple[str, ...]:
    """A file may add to the environment of a release alone, which has nobody's packages; others may use it, though."""
    if claim.file is None or claim.is_named or row.requirements_path or not row.is_requirements_path_recorded:
        return ()
    return (
        f"{path} was applied for the release alone, and will be that of {claim.file}. To have both, set "
        "tensorflow_environment to a name for the new one.",
    )


def _is_users(line: str, supplied: Collection[str]) -> bool:
    project = normalised(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0])
    return project not in supplied and not project.startswith("nvidia-")
