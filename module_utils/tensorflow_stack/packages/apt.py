"""apt and dpkg: what is installed, what apt would do, and having it done."""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import os
import re
from collections.abc import Iterable, Mapping, Sequence

from ..errors import RefusedError, StackError
from .apt_get import CACHE, AptGet, RunText, complaint, run_command
from .apt_pins import PREFERENCES, UNATTENDED, render_preferences, render_unattended
from .closure import Branch, can_move_to, choose_requested
from .debian import (
    FORMAT,
    Index,
    Simulated,
    Stanza,
    close,
    compare_versions,
    parse_depends,
    parse_installed,
    parse_madison,
    parse_simulation,
    parse_stanzas,
    unmet,
)
from .dpkg_lock import frontend_lock
from .manager import PackageManager, Solution
from .model import (
    ClosurePlan,
    InstalledPackage,
    PackageRefusal,
    PackageRequest,
    ResolvedPackage,
    StreamChange,
    Transaction,
    matches,
    refuse,
    refused,
    sort_transaction,
)
from .record import PackagesRecord

JOURNAL = "/var/lib/dpkg/updates"

# Lines with which dpkg begins a step on a package.
_STEP = re.compile(r"(Setting up|Unpacking|Preparing|Selecting|Processing|Removing|Purging|\(Reading) ")
_SHOWN_LINES = 12


class Apt(PackageManager):
    """One node's apt. `lock_timeout` is for each wait for a lock."""

    def __init__(self, *, lock_timeout: float, run: RunText = run_command) -> None:
        self._run = run
        self._lock_timeout = lock_timeout
        self._apt_get = AptGet(run, lock_timeout=lock_timeout)
        self._native = run(["dpkg", "--print-architecture"]).strip()
        self._stanzas: dict[tuple[str, str], Stanza] = {}
        self._shown: set[str] = set()

    # --- What is installed ----------------------------------------------------------------------------

    def installed(self) -> dict[str, InstalledPackage]:
        output = self._run(["dpkg-query", "-W", "-f", FORMAT])
        state = parse_installed(output, native=self._native)
        if not state:
            raise StackError(f"dpkg does not say what is installed: {complaint(output)}. Repair its database first.")
        return state

    def is_interrupted(self) -> bool:
        return os.path.isdir(JOURNAL) and any(name.isdigit() for name in os.listdir(JOURNAL))

    def foreign_holds(self, state: Mapping[str, InstalledPackage], our_holds: Iterable[str]) -> dict[str, str]:
        ours = set(our_holds)
        return {name: f"apt-mark unhold {name}" for name, one in state.items() if one.held and name not in ours}

    def enabled_stream(self, module: str) -> str | None:
        return None

    def available(self, patterns: Sequence[str], names: Iterable[str]) -> dict[str, list[str]]:
        known = self._run([*CACHE, "pkgnames"]).split()
        matching = {name for pattern in patterns for name in fnmatch.filter(known, pattern)} | set(names)
        return parse_madison(self._run([*CACHE, "madison", *sorted(matching)])) if matching else {}

    def compare(self, left: str, right: str) -> int:
        return compare_versions(left, right)

    # --- What is to be done ---------------------------------------------------------------------------

    def solve(
        self,
        request: PackageRequest,
        state: Mapping[str, InstalledPackage],
        *,
        recorded: Mapping[str, str],
        needs_unpacking: Iterable[str],
    ) -> Solution:
        available = self.available(request.name_patterns, [one.name for one in request.packages])
        requested = choose_requested(request, state, available=available, recorded=recorded)
        index = Index(
            available=available,
            installed=state,
            stanza=functools.partial(self._stanza, available=available),
            name_patterns=request.name_patterns,
            branch=Branch.of(request.branch, requested=requested.values(), available=available),
            recorded=recorded,
        )
        closure, simulated = self._settle(request, requested, index, needs_unpacking)
        # A package of the component that would be removed is moved instead, if it is available at a version that fits.
        also_moved = {
            name
            for name, version in simulated.removed.items()
            if matches(name, request.name_patterns)
            and can_move_to(requested.values(), available.get(name, ()), installed=version)
        }
        if also_moved:
            with contextlib.suppress(RefusedError):
                closure, simulated = self._settle(request, requested, index, needs_unpacking, also=also_moved)
        resulting = {name: package.version for name, package in simulated.resulting.items()}
        transaction = sort_transaction(resulting, simulated.removed, state, self.compare)
        packages = [
            ResolvedPackage(name, version, {**state, **simulated.resulting}[name].architecture)
            for name, version in sorted(closure.items())
        ]
        return _AptSolution(ClosurePlan(tuple(packages), transaction), self, request, state)

    def _settle(
        self,
        request: PackageRequest,
        requested: Mapping[str, str],
        index: Index,
        needs_unpacking: Iterable[str],
        also: Iterable[str] = (),
    ) -> tuple[dict[str, str], Simulated]:
        """The closure, and what apt would do for it. Raises RefusedError."""
        state, also = index.installed, set(also)
        matching = index.matching(requested.values())
        removed = {name: version for name, version in index.recorded.items() if name not in state}
        while True:
            closure = close(requested, index, sorted(also))
            if isinstance(closure, PackageRefusal):
                raise refused(request.component, [closure])
            wrong = {
                name: version
                for name, version in closure.items()
                if name not in state or state[name].version != version
            }
            again = self._reinstalled(needs_unpacking, closure, state, index.available)
            pins = {**removed, **matching, **closure}
            simulated = self._simulate(request, {**wrong, **again}, index, pins=pins) if wrong or again else Simulated()
            # What apt chose for virtual packages is pinned like the rest, and requested in the next round.
            chosen = {name for name in simulated.resulting if matches(name, request.name_patterns)} - set(closure)
            if not chosen:
                return closure, simulated
            also |= chosen

    def _reinstalled(
        self,
        needs_unpacking: Iterable[str],
        closure: Mapping[str, str],
        state: Mapping[str, InstalledPackage],
        available: Mapping[str, Sequence[str]],
    ) -> dict[str, str]:
        """Those of the closure at its version, others at theirs if it is available, or at the newest."""
        versions = {}
        for name in needs_unpacking:
            found = available.get(name) or self.available((), [name]).get(name, [])
            version = closure.get(name) or (state[name].version if state[name].version in found else None)
            if version is None and not found:
                raise StackError(
                    f"{name} {state[name].version} was left {state[name].trouble}, and no package repository of this "
                    f"node has it to install it again. Add one, or remove it: "
                    f"dpkg --remove --force-remove-reinstreq {name}",
                    package=name,
                )
            versions[name] = version or found[0]
        return versions

    def _stanza(self, name: str, version: str, *, available: Mapping[str, Sequence[str]]) -> Stanza:
        if name not in self._shown:
            # In one go: each call maps the whole cache.
            fresh = sorted({name, *available} - self._shown) if not self._shown else [name]
            self._stanzas.update(parse_stanzas(self._run([*CACHE, "show", *fresh]), native=self._native))
            self._shown.update(fresh)
        return self._stanzas.get((name, version)) or Stanza(self._native, "", False)

    def _simulate(
        self, request: PackageRequest, versions: Mapping[str, str], index: Index, *, pins: Mapping[str, str]
    ) -> Simulated:
        output = self._apt_get.simulate(versions, pins)
        missing = _missing(versions, output)
        lost = unmet(index.installed) & set(index.recorded) - set(versions) if missing else set()
        if lost:
            # Removed by force, of another component too: apt does nothing else as long as something needs it.
            versions = {**{name: index.recorded[name] for name in lost}, **versions}
            output = self._apt_get.simulate(versions, pins)
            missing = _missing(versions, output)
        if missing:
            text = f"apt cannot install {request} on this node: {complaint(output)}."
            text += " Correct what apt reports, or request another version."
            refuse(request.component, [PackageRefusal("unsolvable", missing, text)])
        return parse_simulation(output)

    def solve_removal(self, names: Iterable[str], stream: StreamChange | None) -> Solution:
        """Raises StackError if apt would remove nothing."""
        names = sorted(names)
        output = self._apt_get.purge("--simulate", names=names)
        removed = dict(parse_simulation(output).removed)
        if not set(names) <= set(removed):
            raise StackError(
                f"apt cannot remove {', '.join(names)}: {complaint(output)}. "
                "Correct what apt reports and run again. Nothing was changed."
            )
        return _AptRemoval(ClosurePlan((), Transaction(remove=removed)), self)

    def needed_by_others(self, candidates: Iterable[str], state: Mapping[str, InstalledPackage]) -> set[str]:
        unneeded = set(candidates)
        while True:
            needed: set[str] = set()
            for name, one in state.items():
                if name not in unneeded:
                    needed |= _needs(one, state, unneeded)
            if not needed:
                return set(candidates) - unneeded
            unneeded -= needed

    # --- Having it done -------------------------------------------------------------------------------

    def heal(self) -> str:
        with frontend_lock(self._lock_timeout):
            return self._run(["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"])

    def download(self, plan: ClosurePlan) -> None:
        versions = plan.transaction.resulting_versions
        output = self._apt_get.download(versions, _pins(plan))
        if re.search(r"^E: ", output, re.MULTILINE):
            wanted = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
            raise StackError(
                f"Not every file of {wanted} could be fetched: {complaint(output)}. Nothing was changed. "
                "Refresh the lists (nvidia_repository), request another version, or repair the connection to the "
                "repository.",
                stderr=output,
            )

    def install(self, plan: ClosurePlan, request: PackageRequest, state: Mapping[str, InstalledPackage]) -> str:
        """The one transaction; returns what apt and dpkg printed."""
        versions = plan.transaction.resulting_versions
        changed = [state[name] for name in [*versions, *plan.transaction.remove] if name in state]
        changes_holds = any(one.held for one in changed)
        automatic = set(self._run(["apt-mark", "showauto"]).split())
        output = self._apt_get.install(
            *(["--allow-downgrades"] if plan.transaction.downgrade else []),
            *(["--allow-change-held-packages", "--ignore-hold"] if changes_holds else []),
            versions=versions,
            pins=_pins(plan),
        )
        # All are named in the command, so apt takes all for manually installed; for its autoremove these are not.
        now = self.installed()
        self._mark_automatic(
            {name for name in versions if name in now and (name in automatic or name not in state)}
            - {one.name for one in request.packages}
        )
        return output

    def purge(self, names: Iterable[str]) -> str:
        return self._apt_get.purge("--yes", "--allow-change-held-packages", names=sorted(names))

    def _mark_automatic(self, names: Iterable[str]) -> None:
        names = sorted(names)
        if names:
            with frontend_lock(self._lock_timeout):
                self._run(["apt-mark", "auto", *names])

    def hold(self, *, place: Iterable[str], lift: Iterable[str]) -> None:
        lines = [f"{name} hold\n" for name in sorted(place)] + [f"{name} install\n" for name in sorted(lift)]
        if lines:
            with frontend_lock(self._lock_timeout):
                self._run(["dpkg", "--set-selections"], stdin="".join(lines))

    def hold_files(self, records: Mapping[str, PackagesRecord], component: str) -> dict[str, str | None]:
        record = records.get(component)
        return {
            PREFERENCES.format(component): render_preferences(record) if record else None,
            UNATTENDED: render_unattended(records.values()),
        }

    def explain(self, output: str) -> str:
        """In dpkg's words and those of the packages' scripts."""
        lines = [line.strip() for line in output.splitlines()]
        causes = []
        for number, line in enumerate(lines):
            follows = "".join(lines[number + 1 : number + 2])
            if not line.startswith("dpkg: error processing") or "dependency problems" in follows:
                continue
            start = number
            while start and number - start < _SHOWN_LINES and not _STEP.match(lines[start - 1]):
                start -= 1
            causes += lines[start : number + 2]
        return " ".join(causes) or complaint(output)


class _AptSolution(Solution):
    def __init__(
        self, plan: ClosurePlan, apt: Apt, request: PackageRequest, state: Mapping[str, InstalledPackage]
    ) -> None:
        super().__init__(plan)
        self._apt, self._request, self._state = apt, request, state

    def download(self) -> None:
        self._apt.download(self.plan)

    def apply(self) -> str:
        return self._apt.install(self.plan, self._request, self._state)


class _AptRemoval(Solution):
    def __init__(self, plan: ClosurePlan, apt: Apt) -> None:
        super().__init__(plan)
        self._apt = apt

    def download(self) -> None:
        """There is nothing to fetch."""

    def apply(self) -> str:
        return self._apt.purge(self.plan.transaction.remove)


def _pins(plan: ClosurePlan) -> dict[str, str]:
    return {package.name: package.version for package in plan.closure}


def _missing(versions: Mapping[str, str], output: str) -> tuple[str, ...]:
    """Those of the packages that apt would not install at these versions."""
    resulting = {name: package.version for name, package in parse_simulation(output).resulting.items()}
    return tuple(sorted(name for name, version in versions.items() if resulting.get(name) != version))


def _needs(one: InstalledPackage, state: Mapping[str, InstalledPackage], unneeded: Iterable[str]) -> set[str]:
    """Those of the packages without which a dependency of this one would be unmet."""
    unneeded = set(unneeded)
    needed: set[str] = set()
    for clause in parse_depends(one.depends):
        names = {alternative.name for alternative in clause}
        satisfied = {name for name, other in state.items() if name in names or names & set(other.provides)}
        if satisfied and satisfied <= unneeded:
            needed |= satisfied
    return needed
