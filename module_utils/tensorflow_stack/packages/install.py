"""One component's packages at exactly one closure, held: planned as a whole, done as a whole, judged by state."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..errors import StackError
from ..io.files import FileChanges
from ..records.component import STATE_DIRECTORY, record_path
from .apt import Apt
from .dnf import Dnf
from .manager import PackageManager, Solution
from .model import (
    ClosurePlan,
    InstalledPackage,
    PackageRefusal,
    PackageRequest,
    StreamChange,
    Transaction,
    refuse,
)
from .record import (
    PackagesRecord,
    asked_of,
    find_drift,
    make_record,
    read_records,
    with_versions,
)
from .result import PackagesOutcome, check_holds, check_result, show_diff, state_after
from .rules import check_transaction

DNF_INTERPRETERS = ("/usr/libexec/platform-python", "/usr/bin/python3")


@dataclass
class _Node:
    """What a run found, after what was left half done has been finished."""

    records: dict[str, PackagesRecord]
    state: dict[str, InstalledPackage]
    drift: list[dict[str, str | None]]
    healed: tuple[str, ...]
    unfinished: bool
    output: str

    @property
    def needs_unpacking(self) -> list[str]:
        return sorted(name for name, one in self.state.items() if one.needs_unpacking)

    @property
    def our_holds(self) -> set[str]:
        return {name for record in self.records.values() for name in set(record.held) - set(record.held_before)}

    @property
    def recorded(self) -> dict[str, str]:
        return {name: version for record in self.records.values() for name, version in record.versions.items()}


@dataclass(frozen=True)
class _Change:
    """What a run does to a node: the plan, and the files and holds that belong to the records as they are to be."""

    plan: ClosurePlan
    records: dict[str, PackagesRecord]
    files: FileChanges
    place: set[str]
    lift: set[str]

    def __bool__(self) -> bool:
        return bool(self.plan or self.files or self.place or self.lift)


def _has_apt() -> bool:
    return shutil.which("apt-get") is not None and shutil.which("dpkg") is not None


def lacks_dnf() -> bool:
    """Whether this node's packages are dnf's, and this Python does not have its interface."""
    return not _has_apt() and shutil.which("dnf") is not None and importlib.util.find_spec("dnf") is None


def find_manager(*, lock_timeout: float) -> PackageManager:
    if _has_apt():
        return Apt(lock_timeout=lock_timeout)
    if lacks_dnf():
        raise StackError(
            f"Neither {sys.executable} nor the system's own Python has the Python interface of dnf 4. "
            "Install python3-dnf; dnf 5 is not supported."
        )
    if shutil.which("dnf"):
        return Dnf(lock_timeout=lock_timeout)
    raise StackError("This node has neither apt nor dnf: packages cannot be installed on it. Use another source.")


def apply_present(
    request: PackageRequest, manager: PackageManager, *, check: bool, directory: str = STATE_DIRECTORY
) -> PackagesOutcome:
    """Install the closure and hold it. Raises RefusedError before anything is changed, BusyError, StackError."""
    node = _inspect(request.component, manager, check=check, directory=directory)
    record = node.records.get(request.component)
    foreign_holds = manager.foreign_holds(node.state, node.our_holds)
    solution = None if _is_as_asked(request, node) else _solve(request, manager, node, foreign_holds)
    plan = solution.plan if solution else ClosurePlan(record.packages if record else (), Transaction())
    after = make_record(request, plan, before=record, state=node.state, foreign_holds=foreign_holds)
    if record and replace(after, asked=record.asked) == record:
        after = record  # The same in other words, as an exact version instead of the pattern that led to it.
    change = _plan_change(request.component, manager, node, plan, after, directory)
    outcome = PackagesOutcome(
        changed=bool(change or node.unfinished),
        version=after.version,
        packages=plan.closure,
        transaction=plan.transaction,
        healed=node.healed,
        drift=node.drift,
        held_by_others=tuple(sorted(name for name in foreign_holds if name in after.versions)),
        diff=show_diff(node.state, change.plan, change.files, place=change.place, lift=change.lift),
    )
    if check or not outcome.changed:
        return outcome
    output = node.output
    if solution and plan:
        solution.download()
        # The run after one that is killed has to know, too, which packages were not installed before.
        started = {**change.records, request.component: replace(after, complete=False)}
        with _plan_files(manager, node.records, started, directory).written():
            pass
        output += solution.apply()
    state = manager.installed()
    check_result(request.component, manager, state, plan, output)
    with _plan_files(manager, node.records, change.records, directory).written():
        # Planned anew: apt drops the hold of what it changes.
        place, lift = _plan_holds(change.records, node, state)
        manager.hold(place=place, lift=lift)
        check_holds(manager.installed(), after.held)
    return outcome


def predict(request: PackageRequest) -> PackagesOutcome:
    """What is known before the repository with the packages is provided: that they are asked for."""
    asked = {one.name: one.version or "*" for one in request.packages}
    version = next((one.version for one in request.packages if one.version), None)
    return PackagesOutcome(changed=True, version=version, transaction=Transaction(install=asked))


def is_recorded(component: str, directory: str = STATE_DIRECTORY) -> bool:
    return component in read_records(directory)


def apply_absent(
    component: str, manager: PackageManager, *, check: bool, directory: str = STATE_DIRECTORY
) -> PackagesOutcome:
    """Remove what was installed for this component alone and nothing else needs, with its pins, holds and record."""
    node = _inspect(component, manager, check=check, directory=directory)
    record = node.records.get(component)
    solution = _solve_removal(record, manager, node) if record else None
    plan = solution.plan if solution else ClosurePlan((), Transaction())
    change = _plan_change(component, manager, node, plan, None, directory)
    outcome = PackagesOutcome(
        changed=bool(change or node.unfinished),
        transaction=plan.transaction,
        healed=node.healed,
        drift=node.drift,
        diff=show_diff(node.state, change.plan, change.files, place=change.place, lift=change.lift),
    )
    if check or not outcome.changed:
        return outcome
    output = node.output + (solution.apply() if solution and plan else "")
    check_result(component, manager, manager.installed(), plan, output)
    manager.hold(place=(), lift=change.lift)
    with change.files.written():  # the record last of all: a run after one that is killed goes on
        return outcome


# --- Reading the node, and planning ---------------------------------------------------------------------


def _inspect(component: str, manager: PackageManager, *, check: bool, directory: str) -> _Node:
    records = read_records(directory)
    state = manager.installed()
    broken = {name: one for name, one in state.items() if one.trouble}
    unfinished = bool(broken) or manager.is_interrupted()
    record = records.get(component)
    drift = _find_drift(record, records, manager, state) if record else []
    output = ""
    if unfinished and not check:
        output = manager.heal()
        state = manager.installed()
    healed = tuple(sorted(name for name, one in broken.items() if not one.waits_for_trigger))
    return _Node(records, state, drift, healed, unfinished, output)


def _find_drift(
    record: PackagesRecord,
    records: Mapping[str, PackagesRecord],
    manager: PackageManager,
    state: Mapping[str, InstalledPackage],
) -> list[dict[str, str | None]]:
    files = FileChanges()
    texts = {path: (_text(files, path), text) for path, text in manager.hold_files(records, record.component).items()}
    asked_stream = record.asked["stream"]
    enabled = manager.enabled_stream(asked_stream.partition(":")[0]) if asked_stream else None
    return find_drift(record, state, texts, enabled)


def _is_as_asked(request: PackageRequest, node: _Node) -> bool:
    """Whether the recorded closure is the one that is asked for, and is installed."""
    record = node.records.get(request.component)
    if record is None or record.asked != asked_of(request) or record.source != request.source:
        return False
    moved = any(row["problem"] in ("missing", "moved", "other stream") for row in node.drift)
    return record.complete and not moved and not node.needs_unpacking


def _solve(request: PackageRequest, manager: PackageManager, node: _Node, foreign_holds: Mapping[str, str]) -> Solution:
    record = node.records.get(request.component)
    recorded = {**node.recorded, **(record.versions if record else {})}
    solution = manager.solve(request, node.state, recorded=recorded, needs_unpacking=node.needs_unpacking)
    pinned_by = {
        wanted["name"]: (one.component, one.versions[wanted["name"]])
        for one in node.records.values()
        if one.component != request.component
        for wanted in one.asked["packages"]
    }
    refusals = check_transaction(
        request,
        solution.plan,
        before=node.state,
        our_holds=node.our_holds,
        foreign_holds=foreign_holds,
        pinned_by=pinned_by,
    )
    refuse(request.component, refusals)
    return solution


def _solve_removal(record: PackagesRecord, manager: PackageManager, node: _Node) -> Solution | None:
    others = [one for one in node.records.values() if one.component != record.component]
    shared = {name for one in others for name in one.versions}
    candidates = {name for name in set(record.newly_installed) - shared - set(record.held_before) if name in node.state}
    unneeded = candidates - manager.needed_by_others(candidates, node.state)
    stream = _reset_of_stream(record, manager)
    if not unneeded and not stream:
        return None
    solution = manager.solve_removal(unneeded, stream)
    other_packages = sorted(set(solution.plan.transaction.remove) - unneeded)
    if other_packages:
        names = ", ".join(other_packages)
        text = f"Removing {record.component} would remove {names} as well. If it is not needed, remove it first."
        refuse(record.component, [PackageRefusal("removes_others", tuple(other_packages), text)])
    return solution


def _reset_of_stream(record: PackagesRecord, manager: PackageManager) -> StreamChange | None:
    """None if another stream was enabled before: packages that were installed before stay, at versions of this one."""
    change = record.stream
    if change is None or change.before or manager.enabled_stream(change.module) != change.after:
        return None
    return StreamChange(change.module, before=change.after, after=None)


def _plan_change(
    component: str,
    manager: PackageManager,
    node: _Node,
    plan: ClosurePlan,
    after: PackagesRecord | None,
    directory: str,
) -> _Change:
    """`after` is the component's record once the plan has been done, None for none."""
    versions = plan.transaction.resulting_versions
    records = {name: with_versions(one, versions) for name, one in node.records.items() if name != component}
    if after:
        records[component] = after
    files = _plan_files(manager, node.records, records, directory)
    place, lift = _plan_holds(records, node, state_after(node.state, plan))
    return _Change(plan, records, files, place if after else set(), lift)


def _text(files: FileChanges, path: str) -> str | None:
    data = files.read(path)
    return None if data is None else data.decode("utf-8", "replace")


def _plan_files(
    manager: PackageManager,
    before: Mapping[str, PackagesRecord],
    after: Mapping[str, PackagesRecord],
    directory: str,
) -> FileChanges:
    wanted: dict[str, str | None] = {}
    for component in {*before, *after}:
        record = after.get(component)
        wanted[record_path(component, directory)] = record.text() if record else None
        wanted.update(manager.hold_files(after, component))
    changes = FileChanges()
    for path, text in sorted(wanted.items()):
        if text is not None:
            changes.write(path, text.encode("utf-8"))
        elif changes.read(path) is not None:
            changes.remove(path)
    return changes


def _plan_holds(
    records: Mapping[str, PackagesRecord], node: _Node, after: Mapping[str, InstalledPackage]
) -> tuple[set[str], set[str]]:
    """The packages to hold, and those whose hold is lifted."""
    held = {name for record in records.values() for name in record.held}
    place = {name for name in held if name in after and not after[name].held}
    return place, {name for name in node.our_holds - held if name in after and after[name].held}
