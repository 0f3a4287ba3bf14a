"""The closure of a component by dnf's solver, with the module's stream that it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .closure import Branch, can_move_to, choose_requested, rank, with_upstream_version_of
from .dnf_python import DnfPython, read_enabled_stream, version_of
from .model import (
    ClosurePlan,
    InstalledPackage,
    PackageRefusal,
    PackageRequest,
    ResolvedPackage,
    StreamChange,
    matches,
    refuse,
    sort_transaction,
)


class DnfSolver:
    """`base` is a dnf.Base of its own. Once it has a plan, `base` has the transaction of that plan."""

    def __init__(
        self,
        python: DnfPython,
        base: Any,
        request: PackageRequest,
        state: Mapping[str, InstalledPackage],
        needs_unpacking: Iterable[str],
    ) -> None:
        self._python, self._base = python, base
        self._request, self._state = request, state
        self._needs_unpacking = set(needs_unpacking)
        self._stream = _find_change(request.stream)
        self._requested: dict[str, str] = {}
        self._preferred: dict[str, str] = {}  # the version that a package of the component should have

    def plan(self, recorded: Mapping[str, str]) -> ClosurePlan:
        """Raises RefusedError."""
        self._enable_stream()
        available = self._available()
        requested = choose_requested(self._request, self._state, available=available, recorded=recorded)
        branch = Branch.of(self._request.branch, requested=requested.values(), available=available)
        self._requested = requested
        self._limit_versions(available, recorded, branch)
        problem, closure = self._settle(requested)
        if problem:
            refuse(self._request.component, [self._explain(branch, problem)])
        closure = self._also_move(available, closure)
        transaction = self._base.transaction
        resulting = {self._python.name(package): version_of(package) for package in transaction.install_set}
        resulting.update({name: version_of(closure[name]) for name in self._needs_unpacking if name in closure})
        removed = {
            name: version
            for name, version in self._removed().items()
            if name not in resulting and name not in self._needs_unpacking
        }
        packages = [ResolvedPackage(name, version_of(one), one.arch) for name, one in sorted(closure.items())]
        return ClosurePlan(
            tuple(packages), sort_transaction(resulting, removed, self._state, self._python.compare), self._stream
        )

    # --- The stream of a module -----------------------------------------------------------------------

    def _enable_stream(self) -> None:
        """In the solver alone: dnf writes it to disk with the transaction. Raises RefusedError."""
        if not self._stream:
            return
        modules = self._python.modules(self._base)
        try:
            # Only dnf's command line refuses to switch from another enabled stream. A reset before would make this the
            # second change of the stream, which dnf refuses.
            modules.enable([self._request.stream])
        except self._python.dnf.exceptions.MarkingErrors as error:
            found, _ = modules.get_modules(self._stream.module)
            streams = ", ".join(sorted({str(module.getStream()) for module in found})) or "none"
            text = (
                f"dnf cannot enable the module stream {self._request.stream} of this node's repositories: "
                f"{' '.join(str(error).split())}. Their streams of {self._stream.module} are: {streams}. "
                "Request another branch of the driver, or add a repository that has this stream."
            )
            refuse(self._request.component, [PackageRefusal("no_stream", (self._stream.module,), text)])

    # --- Versions -------------------------------------------------------------------------------------

    def _available(self) -> dict[str, list[str]]:
        """Versions of the component's and the requested packages, the newest first."""
        requested = {one.name for one in self._request.packages}
        found: dict[str, list[str]] = {}
        for package in sorted(self._base.sack.query().available(), reverse=True):
            name = self._python.name(package)
            if name in requested or matches(name, self._request.name_patterns):
                found.setdefault(name, []).append(version_of(package))
        return {name: list(dict.fromkeys(versions)) for name, versions in found.items()}

    def _limit_versions(
        self, available: Mapping[str, Sequence[str]], recorded: Mapping[str, str], branch: Branch
    ) -> None:
        """Let dnf see only the versions that a package of the component may have."""
        requested = self._requested.values()
        allowed: dict[str, list[str]] = {}
        for name, versions in available.items():
            ranked = rank(
                name, versions, requested=requested, recorded=recorded.get(name), installed=None, branch=branch
            )
            same = with_upstream_version_of(requested, ranked)[:1]
            known = [recorded[name]] if recorded.get(name) in ranked else []
            if same or known:
                self._preferred[name] = (same or known)[0]
            allowed[name] = same or ranked
        allowed.update({name: [version] for name, version in self._requested.items()})
        self._base.sack.reset_excludes()
        excluded = [
            package
            for package in self._base.sack.query().available()
            if version_of(package) not in allowed.get(self._python.name(package), [version_of(package)])
        ]
        if excluded:
            self._base.sack.add_excludes(self._base.sack.query().filter(pkg=excluded))

    # --- The closure ----------------------------------------------------------------------------------

    def _settle(self, targets: Mapping[str, str]) -> tuple[str | None, dict[str, Any]]:
        """dnf's objection, or the closure with every package at its preferred version."""
        targets = dict(targets)
        while True:
            problem = self._solve(targets)
            if problem:
                return problem, {}
            closure = self._closure()
            more = {
                name: self._preferred[name]
                for name, package in closure.items()
                if name in self._preferred and name not in targets and version_of(package) != self._preferred[name]
            }
            more.update(self._lacking(closure, targets))
            if not more:
                return None, closure
            targets.update(more)

    def _also_move(self, available: Mapping[str, Sequence[str]], closure: dict[str, Any]) -> dict[str, Any]:
        """Move an installed package that would be removed instead, if it is available at a version that fits."""
        also_moved = {
            name: self._preferred[name]
            for name, version in self._removed().items()
            if name in self._preferred
            and name not in closure
            and can_move_to(self._requested.values(), available[name], installed=version)
        }
        if not also_moved:
            return closure
        problem, larger = self._settle({**self._requested, **also_moved})
        if problem:
            return self._settle(self._requested)[1]
        installed = {self._python.name(package): package for package in self._base.transaction.install_set}
        return {**larger, **{name: installed[name] for name in also_moved}}

    def _removed(self) -> dict[str, str]:
        return {self._python.name(package): version_of(package) for package in self._base.transaction.remove_set}

    def _solve(self, targets: Mapping[str, str]) -> str | None:
        """Let dnf plan; its words if it cannot."""
        base = self._base
        base.reset(goal=True)
        self._enable_stream()  # which the reset undid
        available = {
            (self._python.name(package), version_of(package)): package for package in base.sack.query().available()
        }
        for name, version in targets.items():
            current = self._state.get(name)
            package = available.get((name, version))
            again = name in self._needs_unpacking
            if package is None or (current and current.version == version and not again):
                continue
            if current and not again and self._python.compare(current.version, version) > 0:
                base.package_downgrade(package, strict=True)
            else:
                base.package_install(package, strict=True)
        for package in base.sack.query().installed():
            name = self._python.name(package)
            if name in self._needs_unpacking and version_of(package) != targets.get(name, self._state[name].version):
                base.package_remove(package)
        try:
            base.resolve(allow_erasing=True)
        except self._python.dnf.exceptions.DepsolveError as error:
            return " ".join(str(error).split())
        return None

    def _final(self) -> Any:
        """All packages that are installed once the transaction has been done."""
        base = self._base
        removed, new = set(base.transaction.remove_set), set(base.transaction.install_set)
        final = [package for package in base.sack.query().installed() if package not in removed] + list(new)
        return base.sack.query(flags=self._python.hawkey.IGNORE_EXCLUDES).filter(pkg=final).apply()

    def _closure(self) -> dict[str, Any]:
        """What the requested packages need of the component, once the transaction has been done."""
        query = self._final()
        by_name = {self._python.name(package): package for package in query}
        closure = {name: by_name[name] for name in self._requested}
        waiting = list(closure.values())
        while waiting:
            package = waiting.pop()
            for provider in query.filter(provides=list(package.requires)) if package.requires else ():
                name = self._python.name(provider)
                if name not in closure and matches(name, self._request.name_patterns):
                    closure[name] = provider
                    waiting.append(provider)
        return closure

    def _lacking(self, closure: Mapping[str, Any], targets: Iterable[str]) -> dict[str, str]:
        """Packages of the component that the closure requires and nothing provides.

        dnf leaves what was removed by force as it is.
        """
        final, found = self._final(), {}
        for package in closure.values():
            for requirement in package.requires:
                # A rich one may have a condition, which libsolv takes for true when asked who provides it.
                if str(requirement).startswith("(") or final.filter(provides=[requirement]):
                    continue
                providers: dict[str, list[str]] = {}
                query = self._base.sack.query().available().filter(provides=[requirement])
                for one in sorted(query, reverse=True):
                    if matches(self._python.name(one), self._request.name_patterns):
                        providers.setdefault(self._python.name(one), []).append(version_of(one))
                for name in sorted(providers)[:1]:
                    preferred = self._preferred.get(name)
                    found[name] = preferred if preferred in providers[name] else providers[name][0]
        return {name: version for name, version in found.items() if version and name not in set(targets)}

    def _explain(self, branch: Branch, problem: str) -> PackageRefusal:
        """Whether it could be done if another branch were let in."""
        self._base.sack.reset_excludes()
        requested = self._requested
        if self._solve(requested) is None:
            closure = self._closure()
            versions = {name: version_of(package) for name, package in closure.items()}
            left = {name: version for name, version in versions.items() if branch.is_left_by(name, version)}
            others = ", ".join(f"{name} {version}" for name, version in sorted(left.items()))
            summaries = [str(closure[name].summary).lower() for name in requested]
            if left and any("transitional" in text for text in summaries):
                asked = ", ".join(f"{name} {version}" for name, version in sorted(requested.items()))
                return PackageRefusal(
                    "transitional",
                    (*requested, *sorted(left)),
                    f"{asked} is a transitional package: it only installs {others}, not of branch {branch.number}. "
                    "Request that branch, or a version that is still a driver itself.",
                )
            if left:
                return PackageRefusal(
                    "leaves_branch",
                    tuple(sorted(left)),
                    f"The request would leave branch {branch.number}: dnf would install {others}. "
                    "Request another version, or add a repository that has the whole branch.",
                )
        return PackageRefusal(
            "unsolvable",
            tuple(sorted(requested)),
            f"dnf cannot install {self._request} on this node: {problem}. "
            "Correct what dnf reports, or request another version.",
        )


def _find_change(stream: str | None) -> StreamChange | None:
    """None if that stream is enabled already, or none is asked for."""
    if not stream:
        return None
    module, _, name = stream.partition(":")
    enabled = read_enabled_stream(module)
    return StreamChange(module, before=enabled, after=name) if enabled != name else None
