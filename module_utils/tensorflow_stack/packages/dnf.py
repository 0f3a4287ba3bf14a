"""dnf 4 by its own Python interface: it has one solver for plan and transaction, and its tables are made for people."""

from __future__ import annotations

import fnmatch
import importlib
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

from ..errors import BusyError, StackError
from .closure import (
    Branch,
    Installed,
    Package,
    Plan,
    Refusal,
    Request,
    bare,
    belongs,
    choose_all_asked,
    describe_asked,
    is_alike,
    rank,
    refuse,
    sort_transaction,
    upstream,
)
from .record import Record

LOCKS = "/etc/dnf/plugins/versionlock.list"
AUTOMATIC = "/etc/dnf/automatic.conf"
_BEGIN, _END = "# tensorflow-gpu-stack begin: written by it, changes are undone", "# tensorflow-gpu-stack end"
_POLL_SECONDS = 1.0


class Dnf:
    """One node's dnf. `lock_timeout` holds for each wait for a lock."""

    def __init__(self, *, lock_timeout: float) -> None:
        self._dnf: Any = importlib.import_module("dnf")
        self._hawkey: Any = importlib.import_module("hawkey")
        self._lock_timeout = lock_timeout
        self._native = str(self._dnf.rpm.basearch(self._hawkey.detect_arch()))
        self._base: Any = None
        self._said: list[str] = []

    # --- What is there --------------------------------------------------------------------------------

    def installed(self) -> dict[str, Installed]:
        base = self._open(repositories=False)
        instances: dict[str, list[Any]] = {}
        several = set(base.sack.query().installed().filter(provides=list(base.conf.installonlypkgs)))
        for package in base.sack.query().installed():
            if package not in several and package.name != "gpg-pubkey":
                instances.setdefault(self._name(package), []).append(package)
        lines = _lines(_read(LOCKS) or "")
        found = {}
        for name, packages in instances.items():
            newest = max(packages)
            twice = "installed at " + " and ".join(_evr(package) for package in sorted(packages))
            found[name] = Installed(
                name=name,
                version=_evr(newest),
                architecture=newest.arch,
                held=any(_locks(line, newest.name) and _allows(line, newest.name, _evr(newest)) for line in lines),
                trouble=twice if len(packages) > 1 else "",
                mess=len(packages) > 1,
            )
        base.close()
        return found

    def is_interrupted(self) -> bool:
        return False

    def held_elsewhere(self, state: Mapping[str, Installed], ours: Iterable[str]) -> dict[str, str]:
        lines = _lines(_without_block(_read(LOCKS) or ""))
        names = [name for name in state if any(_locks(line, bare(name)) for line in lines)]
        return {name: f"dnf versionlock delete {bare(name)}" for name in names}

    def compare(self, left: str, right: str) -> int:
        rpm: Any = importlib.import_module("rpm")
        return int(rpm.labelCompare(_label(left), _label(right)))

    # --- What is to be done ---------------------------------------------------------------------------

    def plan(
        self, request: Request, state: Mapping[str, Installed], *, recorded: Mapping[str, str], mess: Iterable[str]
    ) -> Plan:
        """The closure and the one transaction that brings it. Raises RefusedError."""
        self._require_versionlock()
        self._base = base = self._open(repositories=True)
        available = self._available(request)
        asked = choose_all_asked(request, state, available=available, recorded=recorded)
        branch = Branch.of(request.branch, asked=asked.values(), available=available)
        preferred, allowed = {}, {}
        for name, versions in available.items():
            ranked = rank(
                name, versions, asked=asked.values(), recorded=recorded.get(name), installed=None, branch=branch
            )
            same = [version for version in ranked if upstream(version) in {upstream(one) for one in asked.values()}]
            known = [recorded[name]] if recorded.get(name) in ranked else []
            preferred.update({name: (same or known)[0]} if same or known else {})
            allowed[name] = same[:1] or ranked
        allowed.update({name: [version] for name, version in asked.items()})
        targets = dict(asked)
        self._allow(allowed)
        problem, closure = self._settle(request, asked, targets, preferred, state, mess)
        if problem:
            refuse(request.component, [self._explain(request, targets, state, branch, problem)])
        # What is there at another version and would have to go: it is taken along where it has a fitting one.
        gone = {self._name(package): _evr(package) for package in base.transaction.remove_set}
        gone = {name: version for name, version in gone.items() if name in preferred and name not in closure}
        along = {
            name: preferred[name]
            for name, version in gone.items()
            if is_alike(available[name], asked.values(), besides=version)
        }
        if along:
            problem, taken = self._settle(request, asked, {**targets, **along}, preferred, state, mess)
            problem, closure = (
                self._settle(request, asked, targets, preferred, state, mess)
                if problem
                else (None, {**taken, **{name: self._landing(name) for name in along}})
            )
        removed = {self._name(package): _evr(package) for package in base.transaction.remove_set}
        lands = {self._name(package): _evr(package) for package in base.transaction.install_set}
        lands.update({name: _evr(closure[name]) for name in mess if name in closure})
        removed = {name: version for name, version in removed.items() if name not in lands and name not in set(mess)}
        packages = [Package(name, _evr(package), package.arch) for name, package in sorted(closure.items())]
        plan = Plan(tuple(packages), sort_transaction(lands, removed, state, self.compare))
        refuse(request.component, self._locked_elsewhere(plan))
        return plan

    def _settle(
        self,
        request: Request,
        asked: Mapping[str, str],
        targets: Mapping[str, str],
        preferred: Mapping[str, str],
        state: Mapping[str, Installed],
        mess: Iterable[str],
    ) -> tuple[str | None, dict[str, Any]]:
        """What dnf says against it, or the closure with everything at its preferred version."""
        targets = dict(targets)
        while True:
            problem = self._solve(targets, state, mess)
            if problem:
                return problem, {}
            closure = self._closure(asked, request)
            late = {
                name: preferred[name]
                for name, package in closure.items()
                if name in preferred and name not in targets and _evr(package) != preferred[name]
            }
            late.update(self._lacking(closure, request, preferred, targets))
            if not late:
                return None, closure
            targets.update(late)

    def _landing(self, name: str) -> Any:
        return next(package for package in self._base.transaction.install_set if self._name(package) == name)

    def plan_removal(self, names: Iterable[str]) -> dict[str, str]:
        """What dnf would remove with these, at the versions there are."""
        self._base = base = self._open(repositories=False)
        going = set(names)
        for package in base.sack.query().installed():
            if self._name(package) in going:
                base.package_remove(package)
        base.resolve(allow_erasing=True)
        return {self._name(package): _evr(package) for package in base.transaction.remove_set}

    def needed_by_others(self, candidates: Iterable[str], state: Mapping[str, Installed]) -> set[str]:
        """Those of the candidates without which something else that is installed would lack what it requires."""
        going = set(candidates)
        while going:
            strangers = set(self.plan_removal(going)) - going
            if not strangers:
                break
            there = list(self._base.sack.query().installed())
            needing = self._base.sack.query().installed().filter(pkg=[p for p in there if self._name(p) in strangers])
            kept = {
                self._name(package)
                for package in there
                if self._name(package) in going and needing.filter(requires=[package])
            }
            going -= kept
            if not kept:
                break
        return set(candidates) - going

    def _available(self, request: Request) -> dict[str, list[str]]:
        """Versions of what belongs and of what is asked for, the newest first."""
        names = {one.name for one in request.packages}
        found: dict[str, list[str]] = {}
        for package in sorted(self._base.sack.query().available(), reverse=True):
            name = self._name(package)
            if name in names or belongs(name, request.belongs):
                found.setdefault(name, []).append(_evr(package))
        return {name: list(dict.fromkeys(versions)) for name, versions in found.items()}

    def _allow(self, allowed: Mapping[str, Sequence[str]]) -> None:
        self._base.sack.reset_excludes()
        others = [
            package
            for package in self._base.sack.query().available()
            if self._name(package) in allowed and _evr(package) not in allowed[self._name(package)]
        ]
        if others:
            self._base.sack.add_excludes(self._base.sack.query().filter(pkg=others))

    def _solve(self, targets: Mapping[str, str], state: Mapping[str, Installed], mess: Iterable[str]) -> str | None:
        """Let dnf plan; gives back its words where it cannot."""
        base = self._base
        base.reset(goal=True)
        messy = set(mess)
        available = {(self._name(package), _evr(package)): package for package in base.sack.query().available()}
        for name, version in targets.items():
            there = state.get(name)
            package = available.get((name, version))
            if package is None or (there and there.version == version and name not in messy):
                continue
            if there and name not in messy and self.compare(there.version, version) > 0:
                base.package_downgrade(package, strict=True)
            else:
                base.package_install(package, strict=True)
        for package in base.sack.query().installed():
            name = self._name(package)
            if name in messy and _evr(package) != targets.get(name, state[name].version):
                base.package_remove(package)
        try:
            base.resolve(allow_erasing=True)
        except self._dnf.exceptions.DepsolveError as error:
            return " ".join(str(error).split())
        return None

    def _final(self) -> Any:
        """All packages that are there once the transaction has been done."""
        base = self._base
        gone, fresh = set(base.transaction.remove_set), set(base.transaction.install_set)
        final = [package for package in base.sack.query().installed() if package not in gone] + list(fresh)
        return base.sack.query(flags=self._hawkey.IGNORE_EXCLUDES).filter(pkg=final).apply()

    def _lacking(
        self, closure: Mapping[str, Any], request: Request, preferred: Mapping[str, str], targets: Iterable[str]
    ) -> dict[str, str]:
        """What belongs and the closure requires but nothing provides: dnf leaves what was removed by force as it is."""
        final, found = self._final(), {}
        for package in closure.values():
            for requirement in package.requires:
                # A rich one may have a condition, which libsolv takes for true when asked who provides it.
                if str(requirement).startswith("(") or final.filter(provides=[requirement]):
                    continue
                there: dict[str, list[str]] = {}
                for one in sorted(self._base.sack.query().available().filter(provides=[requirement]), reverse=True):
                    if belongs(self._name(one), request.belongs):
                        there.setdefault(self._name(one), []).append(_evr(one))
                for name in sorted(there)[:1]:
                    found[name] = preferred[name] if preferred.get(name) in there[name] else there[name][0]
        return {name: version for name, version in found.items() if name not in set(targets)}

    def _closure(self, asked: Iterable[str], request: Request) -> dict[str, Any]:
        """What belongs and is needed, once the transaction has been done."""
        query = self._final()
        by_name = {self._name(package): package for package in query}
        closure = {name: by_name[name] for name in asked}
        waiting = list(closure.values())
        while waiting:
            package = waiting.pop()
            for provider in query.filter(provides=list(package.requires)) if package.requires else ():
                name = self._name(provider)
                if name not in closure and belongs(name, request.belongs):
                    closure[name] = provider
                    waiting.append(provider)
        return closure

    def _explain(
        self,
        request: Request,
        targets: Mapping[str, str],
        state: Mapping[str, Installed],
        branch: Branch,
        problem: str,
    ) -> Refusal:
        """Whether it could be done were another branch let in."""
        self._base.sack.reset_excludes()
        if self._solve(targets, state, ()) is None:
            closure = self._closure(targets, request)
            left = {name: _evr(package) for name, package in closure.items() if branch.is_left_by(name, _evr(package))}
            texts = [str(closure[name].summary).lower() for name in targets]
            if left and any("transitional" in text for text in texts):
                said = ", ".join(f"{name} {version}" for name, version in sorted(left.items()))
                wish = ", ".join(f"{name} {version}" for name, version in sorted(targets.items()))
                return Refusal(
                    "transitional",
                    (*targets, *sorted(left)),
                    f"{wish} is a transitional package: it only pulls {said}, not of branch {branch.number}. "
                    "Ask for that branch, or for a version that is still a driver itself.",
                )
            if left:
                said = ", ".join(f"{name} {version}" for name, version in sorted(left.items()))
                return Refusal(
                    "leaves_branch",
                    tuple(sorted(left)),
                    f"What was asked for would leave branch {branch.number}: dnf would bring {said}. "
                    "Ask for another version, or provide a repository that has the whole branch.",
                )
        return Refusal(
            "unsolvable",
            tuple(sorted(targets)),
            f"dnf cannot bring {describe_asked(request)} onto this node: "
            f"{problem}. Mend what dnf names, or ask for another version.",
        )

    def _locked_elsewhere(self, plan: Plan) -> list[Refusal]:
        """Locks of somebody else hold for what is not installed yet, too."""
        lines = _lines(_without_block(_read(LOCKS) or ""))
        found = []
        for name, version in sorted(plan.transaction.install.items()):
            theirs = [line for line in lines if _locks(line, bare(name))]
            if theirs and not any(_allows(line, bare(name), version) for line in theirs):
                found.append(
                    Refusal(
                        "held_by_others",
                        (name,),
                        f"{name} {version} is needed, but {LOCKS} has {', '.join(theirs)}, which is not of this "
                        f"toolkit. If that lock may go: dnf versionlock delete {bare(name)}.",
                    )
                )
        return found

    # --- Having it done -------------------------------------------------------------------------------

    def heal(self, broken: Mapping[str, Installed]) -> str:
        """Nothing by itself: the transaction removes what a killed one left beside its successor."""
        return ""

    def download(self, plan: Plan) -> None:
        """Fetch every file and check its signature before anything changes."""
        base = self._base
        packages = list(base.transaction.install_set)
        try:
            self._awaiting(lambda: base.download_packages(packages))
            for package in packages:
                result, said = base.package_signature_check(package)
                if result == 1:
                    base.package_import_key(package)
                    result, said = base.package_signature_check(package)
                if result:
                    raise StackError(f"The signature of {package} is not good: {said}. Nothing was changed.")
        except (self._dnf.exceptions.Error, OSError) as error:
            wish = ", ".join(str(package) for package in packages)
            raise StackError(
                f"Not every file of {wish} could be fetched: {' '.join(str(error).split())}. Nothing was changed. "
                "Refresh the lists (nvidia_repository), ask for another version, or mend the way to the repository."
            ) from error

    def apply(self, plan: Plan, state: Mapping[str, Installed], *, asked: Iterable[str], changes_holds: bool) -> str:
        """The one transaction; gives back what dnf and the packages' scripts said."""
        said = self._said

        class Progress(self._dnf.callback.TransactionProgress):  # type: ignore[misc,name-defined]  # loaded late
            def error(self, message: str) -> None:
                said.append(message)

            def scriptout(self, messages: str) -> None:
                if messages:
                    said.append(str(messages))

        try:
            self._awaiting(lambda: self._base.do_transaction(display=[Progress()]))
        except self._dnf.exceptions.Error as error:
            said.append(str(error))
        return "\n".join(said)

    def remove(self, names: Iterable[str]) -> str:
        self.plan_removal(names)
        return self.apply(Plan((), sort_transaction({}, {}, {}, self.compare)), {}, asked=(), changes_holds=True)

    def hold(self, *, place: Iterable[str], lift: Iterable[str]) -> None:
        """The files are what holds."""

    def describe(self, said: str) -> str:
        return " ".join(said.split())[-2000:] or "nothing"

    # --- What keeps it so -----------------------------------------------------------------------------

    def hold_files(self, records: Mapping[str, Record], component: str) -> dict[str, str | None]:
        """The files that hold what is recorded, with their text; None for one that is not to be."""
        versions = {name: version for record in records.values() for name, version in record.held.items()}
        locks = [_lock(name, version) for name, version in sorted(versions.items())]
        present = _read(LOCKS)
        files = {LOCKS: None if present is None and not locks else _with_block(present or "", locks)}
        automatic = _read(AUTOMATIC)
        if automatic is not None:
            files[AUTOMATIC] = render_automatic(automatic, sorted({bare(name) for name in versions}))
        return files

    # --- dnf itself -----------------------------------------------------------------------------------

    def _require_versionlock(self) -> None:
        """Without the plugin nothing would read the locks."""
        base = self._dnf.Base()
        base.conf.read()
        places = [os.path.join(path, "versionlock.py") for path in base.conf.pluginpath]
        if not any(os.path.exists(place) for place in places):
            raise StackError(
                "dnf's plugin versionlock is not installed, so that nothing could be held at its version. "
                "Install it first: dnf install python3-dnf-plugin-versionlock."
            )

    def _open(self, *, repositories: bool) -> Any:
        base = self._dnf.Base()
        base.conf.read()
        base.conf.substitutions.update_from_etc(base.conf.installroot)
        base.conf.assumeyes = True
        base.conf.install_weak_deps = False
        base.conf.clean_requirements_on_remove = False
        base.conf.exit_on_lock = True
        if repositories:
            base.read_all_repos()
        try:
            self._awaiting(lambda: base.fill_sack(load_available_repos=repositories))
        except self._dnf.exceptions.RepoError as error:
            raise StackError(f"dnf cannot read its repositories: {error}. Mend them (nvidia_repository).") from error
        return base

    def _name(self, package: Any) -> str:
        native = package.arch in (self._native, "noarch")
        return str(package.name) if native else f"{package.name}:{package.arch}"

    def _awaiting(self, action: Callable[[], Any]) -> Any:
        """The action's result, once no other process has a lock of dnf."""
        deadline = time.monotonic() + self._lock_timeout
        while True:
            try:
                return action()
            except self._dnf.exceptions.LockError as error:
                if time.monotonic() >= deadline:
                    pid = getattr(error, "pid", None)
                    holder = f"process {pid} ({_command(pid)})" if pid else "another process"
                    raise BusyError(
                        f"A lock of dnf is held by {holder}; waited {self._lock_timeout:g} s. "
                        "Run again when it has ended, or raise package_lock_timeout.",
                        holder=holder,
                    ) from error
                time.sleep(_POLL_SECONDS)


def render_automatic(text: str, names: Sequence[str]) -> str:
    """dnf-automatic's configuration with these excluded in `[base]`, beside what somebody else excludes there."""
    lines = _without_block(text).splitlines(keepends=True)
    if not names:
        return "".join(lines)
    start = next((number for number, line in enumerate(lines) if line.strip() == "[base]"), None)
    if start is None:
        lines += ["\n[base]\n"]
        start = len(lines) - 1
    end = next((number for number in range(start + 1, len(lines)) if lines[number].startswith("[")), len(lines))
    theirs = [
        name
        for line in lines[start:end]
        for found in [re.match(r"exclude(?:pkgs)?\s*=\s*(.*)", line)]
        if found
        for name in re.split(r"[\s,]+", found.group(1).strip())
        if name
    ]
    # The last line of a name counts, so that this one repeats what stands before it.
    block = f"{_BEGIN}\nexcludepkgs = {', '.join([*theirs, *names])}\n{_END}\n"
    while end > start + 1 and not lines[end - 1].strip():
        end -= 1
    if not lines[end - 1].endswith("\n"):
        lines[end - 1] += "\n"
    return "".join([*lines[:end], block, *lines[end:]])


def _with_block(text: str, lines: Sequence[str]) -> str:
    """The list with our lines where they stood before, else at its end."""
    block = "".join(f"{line}\n" for line in [_BEGIN, *lines, _END]) if lines else ""
    before, found, rest = text.partition(_BEGIN + "\n")
    if found and _END + "\n" in rest:
        return before + block + rest.partition(_END + "\n")[2]
    return text + ("\n" if text and not text.endswith("\n") else "") + block


def _without_block(text: str) -> str:
    return _with_block(text, ()) if _BEGIN in text else text


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _lock(name: str, version: str) -> str:
    """A line of versionlock.list; the plugin wants the epoch."""
    epoch, version, release = _label(version)
    architecture = name.partition(":")[2] or "*"
    return f"{bare(name)}-{epoch}:{version}-{release}.{architecture}"


def _locks(line: str, name: str) -> bool:
    """Whether a line of the list is on the package, by its name or a pattern of it."""
    pattern = line.lstrip("!")
    return any(
        fnmatch.fnmatchcase(name, part)
        for part in (pattern, pattern.rpartition("-")[0], pattern.rpartition("-")[0].rpartition("-")[0])
        if part
    )


def _allows(line: str, name: str, version: str) -> bool:
    epoch, number, release = _label(version)
    forms = [name, f"{name}-{number}", f"{name}-{epoch}:{number}"]
    forms += [f"{name}-{part}-{release}" for part in (number, f"{epoch}:{number}")]
    pattern = line.lstrip("!")
    matches = any(fnmatch.fnmatchcase(text, pattern) for form in forms for text in (form, f"{form}.x"))
    return matches != line.startswith("!")


def _label(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.partition(":")
    number, _, release = (rest if colon else version).rpartition("-")
    return epoch if colon else "0", number, release


def _evr(package: Any) -> str:
    epoch = f"{package.epoch}:" if int(package.epoch) else ""
    return f"{epoch}{package.version}-{package.release}"


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _command(pid: int) -> str:
    return (_read(f"/proc/{pid}/comm") or "ended").strip()
