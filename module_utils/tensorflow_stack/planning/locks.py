"""Which lock an environment is built from: finds it on the controller or in the build, or says where it is made."""

from __future__ import annotations

from dataclasses import dataclass, replace

from packaging.requirements import Requirement

from ..errors import StackError
from ..locking.added import Added, added_inputs_sha256, added_path
from ..locking.inputs import LockRequest, directory_beside, lock_inputs, source_builds_of
from ..records.lockfile import Lock, read_lock, read_lock_if_whole
from ..requirements.parse import UserRequirements, read_requirements
from ..tables.load import Tables
from . import applied
from .added import Carried, Changes, carry, is_built_anew, recorded_lines, refuse_stuck
from .node import Environment, NodeFacts
from .plan import planned_digest
from .stack import LockState, Policy, Refusal, Stack


@dataclass(frozen=True)
class Places:
    """Where locks are: `own` for those that are made, `shipped` for those of the toolkit."""

    own: str
    shipped: str


@dataclass(frozen=True)
class LockChoice:
    """`wishes` is the file that the lock is for; `carried` additions of a person that it has to hold."""

    lock: LockState
    wishes: UserRequirements | None = None
    carried: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def choose_lock(
    tables: Tables,
    stack: Stack,
    node: NodeFacts,
    policy: Policy,
    *,
    name: str,
    wishes: UserRequirements | None,
    current: Environment | None,
    changes: Changes,
    places: Places,
) -> LockChoice:
    """The lock of the environment `name`. `current` is what was applied, if that is to be planned as it was."""
    row = node.environment(name)
    recorded = recorded_lines(row, changes)
    if current is not None and wishes is None:
        lock = applied.lock_as_applied(current, stack, node.root)
        is_whole = lock is not None and (policy.additions != "keep" or not _loses(current, planned_digest(stack, lock)))
        if lock is not None and is_whole and not changes.projects:
            return LockChoice(lock)
        wishes = _file_of(current, stack, tables)
    request = LockRequest(
        release=stack.release.version,
        python=stack.python.minor,
        platform=f"linux_{node.architecture}",
        flavour=stack.lock_flavour,
        requirements=wishes,
        source_builds=source_builds_of(policy.source_builds) if wishes else (),
    )
    base = find_lock(tables, request, places)
    lock = _with_lines(base, recorded, row, node, places)
    if policy.additions != "keep" or row is None or not _loses(row, planned_digest(stack, lock)):
        return LockChoice(lock, wishes)
    carried = carry(
        row,
        packages=base.lock.packages if base.lock else {},
        named=changes.projects,
        in_file={wish.project for wish in (wishes.requirements if wishes else ())},
    )
    if carried.stuck:
        return LockChoice(lock, wishes, refusals=(refuse_stuck(f"{node.root}/{name}", carried.stuck),))
    lock = _with_lines(base, {**recorded, **carried.lines}, row, node, places, carried)
    return LockChoice(lock, wishes, carried=(*carried.lines.values(), *carried.pins.values()))


def find_lock(tables: Tables, request: LockRequest, places: Places) -> LockState:
    """The lock of a release or file: one of the user's own, else the shipped one; else where it will be made."""
    wishes = request.requirements
    wished_by = wishes.path if wishes else None
    directory = directory_beside(wishes.path) if wishes else places.own
    inputs = lock_inputs(request, tables).sha256
    state = "missing"
    for path in [request.path_in(directory)] + ([] if wishes else [request.path_in(places.shipped)]):
        lock = read_lock(path)
        if lock is None:
            continue
        if lock.inputs_sha256 == inputs:
            return LockState(path, directory, "ready", lock, wished_by)
        state = "stale"
    return LockState(request.path_in(directory), directory, state, None, wished_by)


def _with_lines(
    base: LockState,
    by_project: dict[str, str],
    row: Environment | None,
    node: NodeFacts,
    places: Places,
    carried: Carried | None = None,
) -> LockState:
    """The lock of `base` and these lines: on the controller, else in the build, else to be made."""
    if not by_project:
        return base
    lines = tuple(sorted(by_project.values()))
    path = base.path
    if base.lock is not None:
        inputs = added_inputs_sha256(base.lock, lines)
        if row is not None and row.inputs_sha256 == inputs and not (carried and carried.pins):
            # Of two nodes that were added the same to, each may need other versions of the rest.
            directory = f"{node.root}/.builds/{row.build}"
            return LockState(
                f"{directory}/lock.txt", directory, "applied", None, base.requirements, row.lock_sha256, lines
            )
        path = added_path(places.own, base.lock, lines)
        lock = read_lock_if_whole(path)
        if lock is not None and lock.inputs_sha256 == inputs and _has(lock, carried):
            return replace(base, path=path, lock=lock, lines=lines)
    found = {**(row.packages if row else {}), **(carried.versions if carried else {})}
    added = Added(
        lines=lines,
        pins=tuple(sorted(carried.pins.values())) if carried else (),
        to=f"{node.root}/{row.name}" if row else "the environment",
        directory=places.own,
        base=base.path if base.lock else None,
        versions=found,
        listings=carried.listings if carried else {},
    )
    return LockState(path, base.directory, "missing", None, base.requirements, lines=lines, added=added)


def _has(lock: Lock, carried: Carried | None) -> bool:
    pins = carried.pins.values() if carried else ()
    return {*pins} <= {f"{name}=={version}" for name, version in lock.packages.items()}


def _loses(row: Environment, digest: str | None) -> bool:
    return bool(row.additions) and is_built_anew(row, digest)


def _file_of(row: Environment, stack: Stack, tables: Tables) -> UserRequirements | None:
    """The requirements file that an environment was applied with, to lock it again with something more."""
    if row.requirements_path:
        try:
            return read_requirements(row.requirements_path)
        except StackError as error:
            raise StackError(
                f"{row.name} was applied with {row.requirements_path}, which has to be read to lock it with what "
                f"was added: {error.message}"
            ) from error
    if not row.is_requirements_path_recorded and applied.users_lines(row, supplied_by(stack, tables)):
        raise StackError(
            f"{row.name} was built from a requirements file by an earlier version of this toolkit, which did not "
            "record its path. Set tensorflow_requirements to it."
        )
    return None


def supplied_by(stack: Stack, tables: Tables) -> set[str]:
    """Projects in a lock that no user named."""
    return {
        *stack.release.packages,
        *(Requirement(row.requirement).name for row in tables.constraints if row.kind == "add"),
    }
