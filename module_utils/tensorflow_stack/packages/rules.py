"""What a transaction must not do, although the package manager would. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .model import ClosurePlan, InstalledPackage, PackageRefusal, PackageRequest, matches


def check_transaction(
    request: PackageRequest,
    plan: ClosurePlan,
    *,
    before: Mapping[str, InstalledPackage],
    our_holds: Iterable[str],
    foreign_holds: Mapping[str, str],
    pinned_by: Mapping[str, tuple[str, str]],
) -> list[PackageRefusal]:
    """Every reason against it.

    `foreign_holds` have the command that lifts each. `pinned_by` has, for packages that another component asked for,
    that component and the version.
    """
    transaction = plan.transaction
    moved: dict[str, str | None] = {**transaction.upgrade, **transaction.downgrade}
    moved.update(dict.fromkeys(transaction.remove))
    found = [*_removes_others(request, plan), *_downgrades(request, plan, before)]
    for name, version in sorted(moved.items()):
        if name in foreign_holds and name not in set(our_holds):
            found.append(_held(request, before[name], version, foreign_holds[name]))
        if name in pinned_by and pinned_by[name][1] != version:
            found.append(_pinned(request, name, version, *pinned_by[name]))
    return found


def _removes_others(request: PackageRequest, plan: ClosurePlan) -> list[PackageRefusal]:
    other_packages = sorted(name for name in plan.transaction.remove if not matches(name, request.name_patterns))
    if not other_packages:
        return []
    do = "does" if len(other_packages) == 1 else "do"
    text = (
        f"Installing {request} would remove {', '.join(other_packages)}, which {do} not belong to {request.component}. "
        "If it is not needed, remove it first; otherwise request another version."
    )
    return [PackageRefusal("removes_others", tuple(other_packages), text)]


def _downgrades(
    request: PackageRequest, plan: ClosurePlan, before: Mapping[str, InstalledPackage]
) -> list[PackageRefusal]:
    downgrade = sorted(plan.transaction.downgrade.items())
    if not downgrade or request.allow_downgrade:
        return []
    moves = ", ".join(f"{name} {before[name].version} to {version}" for name, version in downgrade)
    text = (
        f"{request} is older than the installed version and would downgrade {moves}. "
        "Set allow_downgrade (of the driver: nvidia_driver_allow_downgrade), or request a version that is not older."
    )
    return [PackageRefusal("downgrade", tuple(name for name, _ in downgrade), text)]


def _held(request: PackageRequest, held: InstalledPackage, version: str | None, how_to_lift: str) -> PackageRefusal:
    move = f"become {version}" if version else "be removed"
    text = (
        f"{held.name} is held at {held.version}, and not by this toolkit, but must {move} for {request}. "
        f"If that hold is not needed: {how_to_lift}."
    )
    return PackageRefusal("held_by_others", (held.name,), text)


def _pinned(request: PackageRequest, name: str, version: str | None, component: str, pinned: str) -> PackageRefusal:
    need = f"at {version}" if version else "removed"
    text = (
        f"{name} was requested at {pinned} as {component}, but {request} needs it {need}. "
        "Request versions that fit together."
    )
    return PackageRefusal("held_by_others", (name,), text)
