"""Whether the node is as planned, and what a run changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..errors import StackError
from ..io.files import FileChanges
from .manager import PackageManager
from .model import ClosurePlan, InstalledPackage, ResolvedPackage, StreamChange, Transaction


@dataclass(frozen=True)
class PackagesOutcome:
    changed: bool
    version: str | None = None
    packages: tuple[ResolvedPackage, ...] = ()
    transaction: Transaction = field(default_factory=Transaction)
    healed: tuple[str, ...] = ()
    drift: list[dict[str, str | None]] = field(default_factory=list)
    held_by_others: tuple[str, ...] = ()
    diff: list[dict[str, str]] = field(default_factory=list)


def state_after(state: Mapping[str, InstalledPackage], plan: ClosurePlan) -> dict[str, InstalledPackage]:
    """What is installed once the plan is done, held as before."""
    after = {name: one for name, one in state.items() if name not in plan.transaction.remove}
    for name, version in plan.transaction.resulting_versions.items():
        old = state.get(name)
        after[name] = InstalledPackage(name, version, old.architecture if old else "", held=bool(old and old.held))
    return after


def check_result(
    component: str, manager: PackageManager, state: Mapping[str, InstalledPackage], plan: ClosurePlan, output: str
) -> None:
    """Raises StackError if the node is not as planned, whatever the package manager returned."""
    planned = {**{package.name: package.version for package in plan.closure}, **plan.transaction.resulting_versions}
    wrong = {}
    for name, version in planned.items():
        current = state.get(name)
        if current is None:
            wrong[name] = f"{name} {version} is not installed"
        elif current.version != version:
            wrong[name] = f"{name} is {current.version}, not {version}"
    for name, one in state.items():
        if one.trouble:
            wrong[name] = f"{name} {one.version} is {one.trouble}"
        elif name in plan.transaction.remove:
            wrong[name] = f"{name} {one.version} is still installed"
    stream = plan.stream
    if stream and manager.enabled_stream(stream.module) != stream.after:
        enabled = manager.enabled_stream(stream.module) or "none"
        wrong[stream.module] = (
            f"of the module {stream.module} the stream {enabled} is enabled, not {stream.after or 'none'}"
        )
    if wrong:
        raise StackError(
            f"The packages of {component} are not as planned: {', '.join(wrong[name] for name in sorted(wrong))}. "
            f"The package manager printed: {manager.explain(output)} Correct that and run again: the run continues "
            "from here.",
            packages=sorted(wrong),
            stderr=output[-4000:],
        )


def check_holds(state: Mapping[str, InstalledPackage], versions: Iterable[str]) -> None:
    loose = sorted(name for name in versions if not state[name].held)
    if loose:
        raise StackError(f"{', '.join(loose)} could not be held. Check the package manager's state and run again.")


def show_diff(
    state: Mapping[str, InstalledPackage], plan: ClosurePlan, files: FileChanges, *, place: set[str], lift: set[str]
) -> list[dict[str, str]]:
    """Packages, the stream of a module and files before and after; `place` and `lift` are of holds."""
    names = {package.name for package in plan.closure} | lift
    names |= {*plan.transaction.resulting_versions, *plan.transaction.remove}

    def lines(versions: Mapping[str, InstalledPackage], held: set[str]) -> str:
        return "".join(
            f"{name}={versions[name].version}{' held' if name in held else ''}\n"
            for name in sorted(names)
            if name in versions
        )

    held = {name for name, one in state.items() if one.held}
    before = lines(state, held)
    after = lines(state_after(state, plan), (held | place) - lift)
    if before == after and not files and not plan.stream:
        return []
    rows = [{"before_header": "packages", "after_header": "packages", "before": before, "after": after}]
    if plan.stream:
        rows.append(_diff_of_stream(plan.stream))
    return [*rows, *files.diff(lambda data: data.decode("utf-8", "replace"))]


def _diff_of_stream(stream: StreamChange) -> dict[str, str]:
    header = f"module {stream.module}"
    before, after = (f"stream={name}\n" if name else "" for name in (stream.before, stream.after))
    return {"before_header": header, "after_header": header, "before": before, "after": after}
