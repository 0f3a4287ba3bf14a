"""dnf 4: what is installed, and having a solved transaction done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import StackError
from .dnf_python import DnfPython, read_enabled_stream, read_file, version_of
from .dnf_solver import DnfSolver
from .manager import PackageManager, Solution
from .model import (
    ClosurePlan,
    InstalledPackage,
    PackageRefusal,
    PackageRequest,
    StreamChange,
    Transaction,
    refuse,
    without_architecture,
)
from .record import PackagesRecord
from .versionlock import allows, is_for, read_locks, render_automatic, render_lock, with_block, without_block

LOCKS = "/etc/dnf/plugins/versionlock.list"
AUTOMATIC = "/etc/dnf/automatic.conf"


class Dnf(PackageManager):
    """One node's dnf. `lock_timeout` is for each wait for a lock."""

    def __init__(self, *, lock_timeout: float, python: DnfPython | None = None) -> None:
        self._python = python or DnfPython(lock_timeout=lock_timeout)

    # --- What is installed ----------------------------------------------------------------------------

    def installed(self) -> dict[str, InstalledPackage]:
        base = self._python.open(repositories=False)
        instances: dict[str, list[Any]] = {}
        several = set(base.sack.query().installed().filter(provides=list(base.conf.installonlypkgs)))
        for package in base.sack.query().installed():
            if package not in several and package.name != "gpg-pubkey":
                instances.setdefault(self._python.name(package), []).append(package)
        locks = read_locks(read_file(LOCKS) or "")
        found = {}
        for name, packages in instances.items():
            newest = max(packages)
            version = version_of(newest)
            twice = "installed at " + " and ".join(version_of(package) for package in sorted(packages))
            found[name] = InstalledPackage(
                name=name,
                version=version,
                architecture=newest.arch,
                held=any(is_for(line, newest.name) and allows(line, newest.name, version) for line in locks),
                trouble=twice if len(packages) > 1 else "",
                needs_unpacking=len(packages) > 1,
            )
        base.close()
        return found

    def is_interrupted(self) -> bool:
        return False

    def foreign_holds(self, state: Mapping[str, InstalledPackage], our_holds: Iterable[str]) -> dict[str, str]:
        locks = _foreign_locks()
        names = [name for name in state if any(is_for(line, without_architecture(name)) for line in locks)]
        return {name: f"dnf versionlock delete {without_architecture(name)}" for name in names}

    def enabled_stream(self, module: str) -> str | None:
        return read_enabled_stream(module)

    def compare(self, left: str, right: str) -> int:
        return self._python.compare(left, right)

    # --- What is to be done ---------------------------------------------------------------------------

    def solve(
        self,
        request: PackageRequest,
        state: Mapping[str, InstalledPackage],
        *,
        recorded: Mapping[str, str],
        needs_unpacking: Iterable[str],
    ) -> Solution:
        self._python.require_versionlock()
        base = self._python.open(repositories=True)
        plan = DnfSolver(self._python, base, request, state, needs_unpacking).plan(recorded)
        refuse(request.component, _against_foreign_locks(plan))
        return DnfSolution(plan, self._python, base)

    def solve_removal(self, names: Iterable[str], stream: StreamChange | None) -> Solution:
        base = self._removal(names)
        if stream:
            self._reset_module(base, stream.module)
        removed = {self._python.name(package): version_of(package) for package in base.transaction.remove_set}
        return DnfSolution(ClosurePlan((), Transaction(remove=removed), stream), self._python, base)

    def _reset_module(self, base: Any, module: str) -> None:
        """Needs no repository: dnf keeps a copy of the definition of an enabled module."""
        try:
            self._python.modules(base).reset([module])
        except self._python.dnf.exceptions.Error as error:
            raise StackError(
                f"dnf cannot reset the module {module}: {' '.join(str(error).split())}. Nothing was changed. "
                f"Reset it by hand (dnf module reset {module}) and run again."
            ) from error

    def needed_by_others(self, candidates: Iterable[str], state: Mapping[str, InstalledPackage]) -> set[str]:
        unneeded = set(candidates)
        while unneeded:
            base = self._removal(unneeded)
            removed = {self._python.name(package): package for package in base.transaction.remove_set}
            other_packages = [package for name, package in removed.items() if name not in unneeded]
            if not other_packages:
                break
            needing = base.sack.query().installed().filter(pkg=other_packages)
            needed = {name for name in unneeded if name in removed and needing.filter(requires=[removed[name]])}
            unneeded -= needed
            if not needed:
                break
        return set(candidates) - unneeded

    def _removal(self, names: Iterable[str]) -> Any:
        """A dnf.Base with the transaction that removes these packages and what needs them."""
        base = self._python.open(repositories=False)
        names = set(names)
        for package in base.sack.query().installed():
            if self._python.name(package) in names:
                base.package_remove(package)
        base.resolve(allow_erasing=True)
        return base

    # --- Having it done -------------------------------------------------------------------------------

    def heal(self) -> str:
        """The transaction itself removes what a killed one left beside its successor."""
        return ""

    def hold(self, *, place: Iterable[str], lift: Iterable[str]) -> None:
        """The files are what holds."""

    def hold_files(self, records: Mapping[str, PackagesRecord], component: str) -> dict[str, str | None]:
        versions = {name: version for record in records.values() for name, version in record.held.items()}
        locks = [render_lock(name, version) for name, version in sorted(versions.items())]
        present = read_file(LOCKS)
        files = {LOCKS: None if present is None and not locks else with_block(present or "", locks)}
        automatic = read_file(AUTOMATIC)
        if automatic is not None:
            files[AUTOMATIC] = render_automatic(automatic, sorted({without_architecture(name) for name in versions}))
        return files

    def explain(self, output: str) -> str:
        return " ".join(output.split())[-2000:] or "nothing"


class DnfSolution(Solution):
    """`base` has the transaction of the plan, and the module's stream as it is to be."""

    def __init__(self, plan: ClosurePlan, python: DnfPython, base: Any) -> None:
        super().__init__(plan)
        self._python, self._base = python, base

    def download(self) -> None:
        """Checks the signatures as well."""
        packages = list(self._base.transaction.install_set)
        try:
            self._python.waiting(lambda: self._base.download_packages(packages))
            for package in packages:
                result, text = self._base.package_signature_check(package)
                if result == 1:
                    self._base.package_import_key(package)
                    result, text = self._base.package_signature_check(package)
                if result:
                    raise StackError(f"The signature of {package} is not valid: {text}. Nothing was changed.")
        except (self._python.dnf.exceptions.Error, OSError) as error:
            wanted = ", ".join(str(package) for package in packages)
            raise StackError(
                f"Not every file of {wanted} could be fetched: {' '.join(str(error).split())}. Nothing was changed. "
                "Refresh the lists (nvidia_repository), request another version, or repair the connection to the "
                "repository."
            ) from error

    def apply(self) -> str:
        output: list[str] = []

        class Progress(self._python.dnf.callback.TransactionProgress):  # type: ignore[misc,name-defined]  # loaded late
            def error(self, message: str) -> None:
                output.append(message)

            def scriptout(self, messages: str) -> None:
                if messages:
                    output.append(str(messages))

        try:
            self._python.waiting(lambda: self._base.do_transaction(display=[Progress()]))
        except self._python.dnf.exceptions.Error as error:
            output.append(str(error))
        return "\n".join(output)


def _foreign_locks() -> list[str]:
    return read_locks(without_block(read_file(LOCKS) or ""))


def _against_foreign_locks(plan: ClosurePlan) -> list[PackageRefusal]:
    """Locks of somebody else apply to what is not installed yet, too."""
    locks = _foreign_locks()
    found = []
    for name, version in sorted(plan.transaction.install.items()):
        plain = without_architecture(name)
        lines = [line for line in locks if is_for(line, plain)]
        if lines and not any(allows(line, plain, version) for line in lines):
            text = (
                f"{name} {version} is needed, but {LOCKS} has {', '.join(lines)}, which is not of this toolkit. "
                f"If that lock is not needed: dnf versionlock delete {plain}."
            )
            found.append(PackageRefusal("held_by_others", (name,), text))
    return found
