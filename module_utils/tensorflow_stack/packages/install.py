"""One component's packages at exactly one closure, held: planned as a whole, done as a whole, judged by state."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Union

from ..errors import StackError
from ..io.files import FileChanges
from ..records.component import record_path
from .apt import Apt
from .closure import (
    Installed,
    Package,
    Plan,
    Refusal,
    Request,
    Transaction,
    check_transaction,
    refuse,
)
from .dnf import Dnf
from .record import (
    DIRECTORY,
    Record,
    asked_of,
    find_drift,
    make_record,
    moved_along,
    read_records,
)

Manager = Union[Apt, Dnf]  # noqa: UP007  # evaluated by Python 3.7

DNF_INTERPRETERS = ("/usr/libexec/platform-python", "/usr/bin/python3")


@dataclass(frozen=True)
class Outcome:
    changed: bool
    version: str | None = None
    packages: tuple[Package, ...] = ()
    transaction: Transaction = field(default_factory=Transaction)
    healed: tuple[str, ...] = ()
    drift: list[dict[str, str | None]] = field(default_factory=list)
    held_by_others: tuple[str, ...] = ()
    diff: list[dict[str, str]] = field(default_factory=list)


@dataclass
class _Node:
    """What a run found, after what was left half done has been finished."""

    records: dict[str, Record]
    state: dict[str, Installed]
    drift: list[dict[str, str | None]]
    healed: tuple[str, ...]
    unfinished: bool
    said: str

    @property
    def mess(self) -> list[str]:
        return sorted(name for name, one in self.state.items() if one.mess)

    @property
    def ours(self) -> set[str]:
        """Holds that this toolkit placed."""
        return {name for record in self.records.values() for name in set(record.held) - set(record.held_before)}


def _has_apt() -> bool:
    return shutil.which("apt-get") is not None and shutil.which("dpkg") is not None


def lacks_dnf() -> bool:
    """Whether this node's packages are dnf's, and this Python does not have its interface."""
    return not _has_apt() and shutil.which("dnf") is not None and importlib.util.find_spec("dnf") is None


def find_manager(*, lock_timeout: float) -> Manager:
    if _has_apt():
        return Apt(lock_timeout=lock_timeout)
    if lacks_dnf():
        raise StackError(
            f"The Python interface of dnf 4 is not there for {sys.executable} nor for the system's own Python. "
            "Install python3-dnf; dnf 5 is not supported."
        )
    if shutil.which("dnf"):
        return Dnf(lock_timeout=lock_timeout)
    raise StackError("This node has neither apt nor dnf: packages cannot be installed on it. Use another source.")


def apply_present(request: Request, manager: Manager, *, check: bool, directory: str = DIRECTORY) -> Outcome:
    """Bring the node there. Raises RefusedError before anything is changed, BusyError, StackError."""
    node = _look(request.component, manager, check=check, directory=directory)
    record, state = node.records.get(request.component), node.state
    others = manager.held_elsewhere(state, node.ours)
    recorded = {name: version for one in node.records.values() for name, version in one.versions.items()}
    if record:
        recorded.update(record.versions)
    if record and record.asked == asked_of(request) and record.source == request.source and not _is_off(record, node):
        plan = Plan(record.packages, Transaction())
    else:
        plan = manager.plan(request, state, recorded=recorded, mess=node.mess)
        pinned_by = {
            wanted["name"]: (one.component, one.versions[wanted["name"]])
            for one in node.records.values()
            if one.component != request.component
            for wanted in one.asked["packages"]
        }
        refuse(
            request.component,
            check_transaction(request, plan, before=state, ours=node.ours, others=others, pinned_by=pinned_by),
        )
    after = make_record(request, plan, before=record, state=state, others=others)
    if record and replace(after, asked=record.asked) == record:
        after = record  # The same in other words, as an exact version where a pattern led to it.
    lands = plan.transaction.lands
    records = {name: moved_along(one, lands) for name, one in node.records.items()}
    records[request.component] = after
    changes = _plan_files(manager, node.records, records, directory)
    place, lift = _plan_holds(records, node, _state_after(state, plan))
    outcome = Outcome(
        changed=bool(plan.transaction or changes or place or lift or node.unfinished),
        version=after.version,
        packages=plan.closure,
        transaction=plan.transaction,
        healed=node.healed,
        drift=node.drift,
        held_by_others=tuple(sorted(name for name in others if name in after.versions)),
        diff=_diff(manager, changes, state, plan, place, lift),
    )
    if check or not outcome.changed:
        return outcome
    said = node.said
    if plan.transaction:
        manager.download(plan)
        # What is about to be brought is known as such also to the run after one that is killed.
        started = {**records, request.component: replace(after, complete=False)}
        with _plan_files(manager, node.records, started, directory).written():
            pass
        changes_holds = any(state[name].held for name in [*lands, *plan.transaction.remove] if name in state)
        said += manager.apply(plan, state, asked={one.name for one in request.packages}, changes_holds=changes_holds)
    state = manager.installed()
    _judge(request.component, manager, state, plan, said)
    with _plan_files(manager, node.records, records, directory).written():
        # Looked up anew: apt drops the hold of what it changes.
        place, lift = _plan_holds(records, node, state)
        manager.hold(place=place, lift=lift)
        _judge_holds(manager.installed(), after.held)
    return outcome


def foretell(request: Request) -> Outcome:
    """What is known before the repository is there that has the packages: that they are asked for."""
    asked = {one.name: one.version or "*" for one in request.packages}
    version = next((one.version for one in request.packages if one.version), None)
    return Outcome(changed=True, version=version, transaction=Transaction(install=asked))


def is_recorded(component: str, directory: str = DIRECTORY) -> bool:
    return component in read_records(directory)


def apply_absent(component: str, manager: Manager, *, check: bool, directory: str = DIRECTORY) -> Outcome:
    """Take away what only this component brought and nothing else needs, and what held it."""
    node = _look(component, manager, check=check, directory=directory)
    records = {name: record for name, record in node.records.items() if name != component}
    record, state = node.records.get(component), node.state
    shared = {name for one in records.values() for name in one.versions}
    brought = set(record.brought) - shared - set(record.held_before) if record else set()
    candidates = {name for name in brought if name in state}
    going = candidates - manager.needed_by_others(candidates, state)
    transaction = Transaction(remove=manager.plan_removal(going) if going else {})
    strangers = sorted(set(transaction.remove) - going)
    if strangers:
        said = f"Removing {component} would remove {', '.join(strangers)} as well. Remove that first, if it may go."
        refuse(component, [Refusal("removes_others", tuple(strangers), said)])
    changes = _plan_files(manager, node.records, records, directory, gone=component)
    plan = Plan((), transaction)
    _, lift = _plan_holds(records, node, _state_after(state, plan))
    outcome = Outcome(
        changed=bool(transaction or changes or lift or node.unfinished),
        transaction=transaction,
        healed=node.healed,
        drift=node.drift,
        diff=_diff(manager, changes, state, plan, set(), lift),
    )
    if check or not outcome.changed:
        return outcome
    said = node.said + (manager.remove(transaction.remove) if transaction else "")
    _judge(component, manager, manager.installed(), plan, said)
    manager.hold(place=(), lift=lift)
    with changes.written():  # the record last of all: a run that is killed before goes on
        return outcome


def _look(component: str, manager: Manager, *, check: bool, directory: str) -> _Node:
    records = read_records(directory)
    state = manager.installed()
    broken = {name: one for name, one in state.items() if one.trouble}
    unfinished = bool(broken) or manager.is_interrupted()
    record = records.get(component)
    files = FileChanges()
    held = manager.hold_files(records, component) if record else {}
    drift = (
        find_drift(record, state, {path: (_text(files, path), text) for path, text in held.items()}) if record else []
    )
    said = ""
    if unfinished and not check:
        said = manager.heal(broken)
        state = manager.installed()
    left = tuple(sorted(name for name, one in broken.items() if not one.waits))
    return _Node(records, state, drift, left, unfinished, said)


def _is_off(record: Record, node: _Node) -> bool:
    moved = any(row["problem"] in ("missing", "moved") for row in node.drift)
    return moved or not record.complete or bool(node.mess)


def _text(files: FileChanges, path: str) -> str | None:
    data = files.read(path)
    return None if data is None else data.decode("utf-8", "replace")


def _plan_files(
    manager: Manager,
    before: Mapping[str, Record],
    after: Mapping[str, Record],
    directory: str,
    *,
    gone: str | None = None,
) -> FileChanges:
    wanted: dict[str, str | None] = {}
    for component in {*before, *after, *([gone] if gone else [])}:
        record = after.get(component)
        if record or component in before:
            wanted[record_path(component, directory)] = record.text() if record else None
        wanted.update(manager.hold_files(after, component))
    changes = FileChanges()
    for path, text in sorted(wanted.items()):
        if text is not None:
            changes.write(path, text.encode("utf-8"))
        elif changes.read(path) is not None:
            changes.remove(path)
    return changes


def _state_after(state: Mapping[str, Installed], plan: Plan) -> dict[str, Installed]:
    """What is installed once the plan is done, held as before."""
    after = {name: one for name, one in state.items() if name not in plan.transaction.remove}
    for name, version in plan.transaction.lands.items():
        old = state.get(name)
        after[name] = Installed(name, version, old.architecture if old else "", held=bool(old and old.held))
    return after


def _plan_holds(
    records: Mapping[str, Record], node: _Node, after: Mapping[str, Installed]
) -> tuple[set[str], set[str]]:
    held = {name for record in records.values() for name in record.held}
    place = {name for name in held if name in after and not after[name].held}
    return place, {name for name in node.ours - held if name in after and after[name].held}


def _judge(component: str, manager: Manager, state: Mapping[str, Installed], plan: Plan, said: str) -> None:
    """Raises StackError where the node is not as planned, whatever the package manager returned."""
    meant = {**{package.name: package.version for package in plan.closure}, **plan.transaction.lands}
    wrong = {}
    for name, version in meant.items():
        there = state.get(name)
        if there is None:
            wrong[name] = f"{name} {version} is not installed"
        elif there.version != version:
            wrong[name] = f"{name} is {there.version}, not {version}"
    for name, one in state.items():
        if one.trouble:
            wrong[name] = f"{name} {one.version} is {one.trouble}"
        elif name in plan.transaction.remove:
            wrong[name] = f"{name} {one.version} is still installed"
    if wrong:
        raise StackError(
            f"The packages of {component} are not as planned: {', '.join(wrong[name] for name in sorted(wrong))}. "
            f"What was said: {manager.describe(said)} Mend that and run again, which goes on from here.",
            packages=sorted(wrong),
            stderr=said[-4000:],
        )


def _judge_holds(state: Mapping[str, Installed], versions: Iterable[str]) -> None:
    loose = sorted(name for name in versions if not state[name].held)
    if loose:
        raise StackError(
            f"{', '.join(loose)} could not be held. Look at the package manager's own state and run again."
        )


def _diff(
    manager: Manager,
    changes: FileChanges,
    state: Mapping[str, Installed],
    plan: Plan,
    place: set[str],
    lift: set[str],
) -> list[dict[str, str]]:
    after = _state_after(state, plan)
    names = (
        {package.name for package in plan.closure} | set(plan.transaction.lands) | set(plan.transaction.remove) | lift
    )

    def lines(versions: Mapping[str, Installed], held: set[str]) -> str:
        return "".join(
            f"{name}={versions[name].version}{' held' if name in held else ''}\n"
            for name in sorted(names)
            if name in versions
        )

    held = {name for name, one in state.items() if one.held}
    packages = {"before_header": "packages", "after_header": "packages"}
    before_text, after_text = lines(state, held), lines(after, (held | place) - lift)
    if before_text == after_text and not changes:
        return []
    return [
        {**packages, "before": before_text, "after": after_text},
        *changes.diff(lambda data: data.decode("utf-8", "replace")),
    ]
