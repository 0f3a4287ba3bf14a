"""apt and dpkg: what is there, what apt would do, and having it done. Judged by dpkg's state, never by exit codes."""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import functools
import math
import os
import re
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Callable

from ..errors import BusyError, RefusedError, StackError
from .closure import (
    Branch,
    Installed,
    Package,
    Plan,
    Refusal,
    Request,
    belongs,
    choose_all_asked,
    describe_asked,
    is_alike,
    refuse,
    refused,
    sort_transaction,
)
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
from .record import Record

FRONTEND_LOCK = "/var/lib/dpkg/lock-frontend"
JOURNAL = "/var/lib/dpkg/updates"
PREFERENCES = "/etc/apt/preferences.d/tensorflow-gpu-stack-{}.pref"
UNATTENDED = "/etc/apt/apt.conf.d/52tensorflow-gpu-stack"

_OPTIONS = (
    "-o=APT::Color=false",
    "-o=APT::Install-Recommends=false",
    "-o=APT::Install-Suggests=false",
    "-o=APT::Get::AutomaticRemove=false",
    "-o=Dpkg::Use-Pty=0",
    "-o=Dpkg::Options::=--force-confdef",
    "-o=Dpkg::Options::=--force-confold",
    "-o=Acquire::Retries=3",
)
# Who holds a lock, as apt says it since 1.9.
_LOCKED = re.compile(r"Could not get lock (\S+?)\.? (?:It is held by process (\d+) \((.*?)\)|- open)")
_POLL_SECONDS = 1.0
# Lines with which dpkg begins a step on a package.
_STEP = re.compile(r"(Setting up|Unpacking|Preparing|Selecting|Processing|Removing|Purging|\(Reading) ")
_SHOWN_LINES = 12

# Without the pins of the node: a file of them that is broken must not hide what there is.
_CACHE = ("apt-cache", "-o=Dir::Etc::preferences=/dev/null", "-o=Dir::Etc::preferencesparts=/dev/null")

Run = Callable[..., str]


def run_command(argv: Sequence[str], *, stdin: str = "") -> str:
    """What a command says on both channels. Whether it did its work is seen from what it worked on."""
    environ = {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "LANGUAGE": "C",
        "DEBIAN_FRONTEND": "noninteractive",
        "APT_LISTCHANGES_FRONTEND": "none",
        "DPKG_FRONTEND_LOCKED": "1",
    }
    if argv[0] != "dpkg":
        del environ["DPKG_FRONTEND_LOCKED"]
    done = subprocess.run(
        list(argv), input=stdin, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


class Apt:
    """One node's apt. `lock_timeout` holds for each wait for a lock."""

    def __init__(self, *, lock_timeout: float, run: Run = run_command) -> None:
        self._run = run
        self._lock_timeout = lock_timeout
        self._native = run(["dpkg", "--print-architecture"]).strip()
        self._stanzas: dict[tuple[str, str], Stanza] = {}
        self._shown: set[str] = set()

    # --- What is there --------------------------------------------------------------------------------

    def installed(self) -> dict[str, Installed]:
        said = self._run(["dpkg-query", "-W", "-f", FORMAT])
        state = parse_installed(said, native=self._native)
        if not state:
            raise StackError(f"dpkg does not say what is installed: {complaint(said)}. Mend its database first.")
        return state

    def is_interrupted(self) -> bool:
        """Whether dpkg was killed with its journal open: apt refuses to work until it is read back."""
        return os.path.isdir(JOURNAL) and any(name.isdigit() for name in os.listdir(JOURNAL))

    def held_elsewhere(self, state: Mapping[str, Installed], ours: Iterable[str]) -> dict[str, str]:
        """Holds of others, with the command that lifts each."""
        mine = set(ours)
        return {name: f"apt-mark unhold {name}" for name, one in state.items() if one.held and name not in mine}

    def available(self, patterns: Sequence[str], names: Iterable[str]) -> dict[str, list[str]]:
        known = self._run([*_CACHE, "pkgnames"]).split()
        matching = {name for pattern in patterns for name in fnmatch.filter(known, pattern)} | set(names)
        return parse_madison(self._run([*_CACHE, "madison", *sorted(matching)])) if matching else {}

    def compare(self, left: str, right: str) -> int:
        return compare_versions(left, right)

    # --- What is to be done ---------------------------------------------------------------------------

    def plan(
        self, request: Request, state: Mapping[str, Installed], *, recorded: Mapping[str, str], mess: Iterable[str]
    ) -> Plan:
        """The closure and the one transaction that brings it. Raises RefusedError."""
        available = self.available(request.belongs, [one.name for one in request.packages])
        asked = choose_all_asked(request, state, available=available, recorded=recorded)
        index = Index(
            available=available,
            installed=state,
            stanza=functools.partial(self._stanza, available=available),
            patterns=request.belongs,
            branch=Branch.of(request.branch, asked=asked.values(), available=available),
            recorded=recorded,
        )
        closure, simulated = self._settle(request, asked, index, mess=mess)
        # What is there at another version and would have to go: it is taken along where it has a fitting one.
        along = {
            name
            for name, version in simulated.removed.items()
            if belongs(name, request.belongs) and is_alike(available.get(name, ()), asked.values(), besides=version)
        }
        if along:
            with contextlib.suppress(RefusedError):
                closure, simulated = self._settle(request, asked, index, further=along, mess=mess)
        transaction = sort_transaction(
            {name: package.version for name, package in simulated.lands.items()}, simulated.removed, state, self.compare
        )
        packages = [
            Package(name, version, self._architecture(name, version, state, simulated))
            for name, version in sorted(closure.items())
        ]
        return Plan(tuple(packages), transaction)

    def _settle(
        self,
        request: Request,
        asked: Mapping[str, str],
        index: Index,
        *,
        mess: Iterable[str],
        further: Iterable[str] = (),
    ) -> tuple[dict[str, str], Simulated]:
        """The closure, and what apt would do for it. Raises RefusedError."""
        state, further = index.installed, set(further)
        alike = index.alike(asked.values())
        gone = {name: version for name, version in index.recorded.items() if name not in state}
        while True:
            closure = close(asked, index, sorted(further))
            if isinstance(closure, Refusal):
                raise refused(request.component, [closure])
            wrong = {
                name: version
                for name, version in closure.items()
                if name not in state or state[name].version != version
            }
            again = self._reinstalled(mess, closure, state, index.available)
            pins = {**gone, **alike, **closure}
            simulated = self._simulate(request, {**wrong, **again}, index, pins=pins) if wrong or again else Simulated()
            # What dpkg's virtual packages brought in is pinned like the rest, and asked for in the next round.
            unseen = {name for name in simulated.lands if belongs(name, request.belongs)} - set(closure)
            if not unseen:
                return closure, simulated
            further |= unseen

    def plan_removal(self, names: Iterable[str]) -> dict[str, str]:
        """What apt would remove with these, at the versions there are. Raises StackError where it removes nothing."""
        said = self._apt("purge", "--simulate", *sorted(names))
        removed = dict(parse_simulation(said).removed)
        if not set(names) <= set(removed):
            raise StackError(
                f"apt cannot remove {', '.join(sorted(names))}: {complaint(said)}. "
                "Mend what apt names and run again. Nothing was changed."
            )
        return removed

    def needed_by_others(self, candidates: Iterable[str], state: Mapping[str, Installed]) -> set[str]:
        """Those of the candidates without which something else that is installed would lack what it depends on."""
        going = set(candidates)
        while True:
            kept = set()
            for name, one in state.items():
                if name in going:
                    continue
                kept |= _needs(one, state, going)
            if not kept:
                return set(candidates) - going
            going -= kept

    def _reinstalled(
        self,
        mess: Iterable[str],
        closure: Mapping[str, str],
        state: Mapping[str, Installed],
        available: Mapping[str, Sequence[str]],
    ) -> dict[str, str]:
        """What was left in a mess: the closure's at its version, others at theirs or else the newest there is."""
        versions = {}
        for name in mess:
            there = available.get(name) or self.available((), [name]).get(name, [])
            version = closure.get(name) or (state[name].version if state[name].version in there else None)
            if version is None and not there:
                raise StackError(
                    f"{name} {state[name].version} was left {state[name].trouble}, and no package repository of this "
                    f"node has it to install it again. Provide one, or remove it: "
                    f"dpkg --remove --force-remove-reinstreq {name}",
                    package=name,
                )
            versions[name] = version or there[0]
        return versions

    def _stanza(self, name: str, version: str, *, available: Mapping[str, Sequence[str]]) -> Stanza:
        if name not in self._shown:
            # In one go: each call maps the whole cache.
            fresh = sorted({name, *available} - self._shown) if not self._shown else [name]
            self._stanzas.update(parse_stanzas(self._run([*_CACHE, "show", *fresh]), native=self._native))
            self._shown.update(fresh)
        return self._stanzas.get((name, version)) or Stanza(self._native, "", False)

    def _architecture(self, name: str, version: str, state: Mapping[str, Installed], simulated: Simulated) -> str:
        if name in simulated.lands:
            return simulated.lands[name].architecture
        return state[name].architecture

    def _simulate(
        self, request: Request, targets: Mapping[str, str], index: Index, *, pins: Mapping[str, str]
    ) -> Simulated:
        said, simulated = self._try(targets, pins=pins)
        missing = _missing(targets, simulated)
        lost = unmet(index.installed) & set(index.recorded) - set(targets) if missing else set()
        if lost:
            # Removed by force, of another component too: apt does nothing else as long as something needs it.
            targets = {**{name: index.recorded[name] for name in lost}, **targets}
            said, simulated = self._try(targets, pins=pins)
            missing = _missing(targets, simulated)
        if missing:
            refuse(
                request.component,
                [
                    Refusal(
                        "unsolvable",
                        missing,
                        f"apt cannot bring {describe_asked(request)} onto this node: {complaint(said)}. "
                        "Mend what apt names, or ask for another version.",
                    )
                ],
            )
        return simulated

    def _try(self, targets: Mapping[str, str], *, pins: Mapping[str, str]) -> tuple[str, Simulated]:
        said = self._install("--simulate", targets=targets, pins=pins)
        return said, parse_simulation(said)

    # --- Having it done -------------------------------------------------------------------------------

    def heal(self, broken: Mapping[str, Installed]) -> str:
        """Configure what was left unconfigured; gives back what dpkg said."""
        with self._frontend_lock():
            return self._run(["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"])

    def download(self, plan: Plan) -> None:
        """Fetch every file before anything changes. Raises StackError where one is gone or damaged."""
        pins = {package.name: package.version for package in plan.closure}
        said = self._install("--download-only", targets=plan.transaction.lands, pins=pins)
        if re.search(r"^E: ", said, re.MULTILINE):
            wish = ", ".join(f"{name} {version}" for name, version in sorted(plan.transaction.lands.items()))
            raise StackError(
                f"Not every file of {wish} could be fetched: {complaint(said)}. Nothing was changed. "
                "Refresh the lists (nvidia_repository), ask for another version, or mend the way to the repository.",
                stderr=said,
            )

    def apply(self, plan: Plan, state: Mapping[str, Installed], *, asked: Iterable[str], changes_holds: bool) -> str:
        """The one transaction; gives back what apt and dpkg said."""
        pins = {package.name: package.version for package in plan.closure}
        lands = plan.transaction.lands
        automatic = set(self._run(["apt-mark", "showauto"]).split())
        said = self._install(
            *(["--allow-downgrades"] if plan.transaction.downgrade else []),
            *(["--allow-change-held-packages", "--ignore-hold"] if changes_holds else []),
            targets=lands,
            pins=pins,
        )
        # All are named, so apt takes all for asked for; for its autoremove these were not.
        there = self.installed()
        self._mark_automatic(
            {name for name in lands if name in there and (name in automatic or name not in state)} - set(asked)
        )
        return said

    def remove(self, names: Iterable[str]) -> str:
        return self._apt("purge", "--yes", "--allow-change-held-packages", *sorted(names))

    def _mark_automatic(self, names: Iterable[str]) -> None:
        names = sorted(names)
        if names:
            with self._frontend_lock():
                self._run(["apt-mark", "auto", *names])

    def hold(self, *, place: Iterable[str], lift: Iterable[str]) -> None:
        lines = [f"{name} hold\n" for name in sorted(place)] + [f"{name} install\n" for name in sorted(lift)]
        if lines:
            with self._frontend_lock():
                self._run(["dpkg", "--set-selections"], stdin="".join(lines))

    def describe(self, said: str) -> str:
        """Why packages are not as they should be, in dpkg's words and those of their scripts."""
        lines = [line.strip() for line in said.splitlines()]
        causes = []
        for number, line in enumerate(lines):
            follows = "".join(lines[number + 1 : number + 2])
            if not line.startswith("dpkg: error processing") or "dependency problems" in follows:
                continue
            start = number
            while start and number - start < _SHOWN_LINES and not _STEP.match(lines[start - 1]):
                start -= 1
            causes += lines[start : number + 2]
        return " ".join(causes) or complaint(said)

    # --- What keeps it so -----------------------------------------------------------------------------

    def hold_files(self, records: Mapping[str, Record], component: str) -> dict[str, str | None]:
        """The files that hold what is recorded, with their text; None for one that is not to be."""
        record = records.get(component)
        return {
            PREFERENCES.format(component): render_preferences(record) if record else None,
            UNATTENDED: render_unattended(records.values()),
        }

    # --- The commands ---------------------------------------------------------------------------------

    def _install(self, *options: str, targets: Mapping[str, str], pins: Mapping[str, str]) -> str:
        """`apt-get install` of exactly these; the node's own pins do not count for what is pinned here."""
        tries = "--simulate" in options or "--download-only" in options
        wish = [f"{name}={version}" for name, version in sorted(targets.items())]
        with tempfile.NamedTemporaryFile("w", prefix="tensorflow-gpu-stack-", suffix=".pref") as preferences:
            os.chmod(preferences.name, 0o644)  # apt drops its rights to fetch
            preferences.write(_pins({**pins, **targets}) + _pins_of_others())
            preferences.flush()
            # Whether it may be so is judged from the plan.
            further = ["--ignore-hold", "--allow-change-held-packages", "--allow-downgrades"] if tries else []
            return self._apt(
                "install",
                f"-o=Dir::Etc::preferences={preferences.name}",
                "-o=Dir::Etc::preferencesparts=/dev/null",
                "--yes",
                "--reinstall",
                "--no-install-recommends",
                *options,
                *further,
                *wish,
            )

    def _apt(self, action: str, *arguments: str) -> str:
        deadline = time.monotonic() + self._lock_timeout
        while True:
            left = max(0, math.ceil(deadline - time.monotonic()))
            said = self._run(["apt-get", *_OPTIONS, f"-o=DPkg::Lock::Timeout={left}", action, *arguments])
            # apt itself waits for dpkg's locks, not for the one of its archives.
            locked = _LOCKED.search(said)
            if not locked or "--simulate" in arguments:
                return said
            if time.monotonic() >= deadline:
                path, pid, command = locked.groups()
                raise self._busy(path, f"process {pid} ({command})" if pid else "an unknown process")
            time.sleep(_POLL_SECONDS)

    @contextlib.contextmanager
    def _frontend_lock(self) -> Iterator[None]:
        """dpkg does not wait for its lock: it is held for it, and dies with this process."""
        deadline = time.monotonic() + self._lock_timeout
        with open(FRONTEND_LOCK, "r+b") as file:
            while True:
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() >= deadline:
                        raise self._busy(FRONTEND_LOCK, holder(file.fileno())) from None
                    time.sleep(_POLL_SECONDS)
            yield

    def _busy(self, path: str, process: str) -> BusyError:
        return BusyError(
            f"{path} is held by {process}; waited {self._lock_timeout:g} s. "
            "Run again when it has ended, or raise package_lock_timeout.",
            lock=path,
            holder=process,
        )


def holder(descriptor: int) -> str:
    """Which process has a POSIX lock on the file."""
    asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    pid = answer[4]
    if answer[0] == fcntl.F_UNLCK or pid <= 0:
        return "an unknown process"
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return f"process {pid} ({file.read().strip()})"
    except OSError:
        return f"process {pid}"


def complaint(said: str) -> str:
    """What apt complains of, on one line."""
    lines = [line.strip() for line in said.splitlines()]
    errors = [re.sub(r"^E: ", "", line) for line in lines if line.startswith("E: ")]
    errors += [line for line in lines if re.search(r" (Depends|PreDepends|Conflicts|Breaks): ", line)]
    return "; ".join(line.rstrip(". ") for line in errors) or (lines[-1] if lines else "it printed nothing")


def render_preferences(record: Record) -> str:
    header = (
        f"# Written by the TensorFlow GPU stack for {record.component}; changes are undone by its next run.\n"
        "# No other version comes in, also where the pinned one has left the repository.\n"
    )
    pins = record.held
    return header + "\n" + _pins(pins) + "\n" + _pins({name: "*" for name in pins}, priority=-1)


def render_unattended(records: Iterable[Record]) -> str | None:
    names = sorted({name.partition(":")[0] for record in records for name in record.held})
    if not names:
        return None
    rows = "".join('  "^{}$";\n'.format(re.sub(r"([.+])", r"\\\1", name)) for name in names)
    return (
        "// Written by the TensorFlow GPU stack; changes are undone by its next run.\n"
        "// unattended-upgrades leaves exactly these as they are; everything else is upgraded as before.\n"
        f"Unattended-Upgrade::Package-Blacklist {{\n{rows}}};\n"
    )


def _pins(versions: Mapping[str, str], *, priority: int = 1001) -> str:
    return "\n".join(
        f"Package: {name}\nPin: version {version}\nPin-Priority: {priority}\n"
        for name, version in sorted(versions.items())
    )


def _pins_of_others() -> str:
    """What apt reads of this node's pins, but for those of this toolkit, which are about to be written anew."""
    directory = os.path.dirname(PREFERENCES)
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    own = os.path.basename(PREFERENCES).partition("{")[0]
    read = [name for name in names if re.fullmatch(r"[\w-]+(\.pref)?", name) and not name.startswith(own)]
    texts = []
    for path in ["/etc/apt/preferences", *(os.path.join(directory, name) for name in read)]:
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as file:
            texts.append("\n" + file.read())
    return "\n".join(texts)


def _missing(targets: Mapping[str, str], simulated: Simulated) -> tuple[str, ...]:
    lands = {name: package.version for name, package in simulated.lands.items()}
    return tuple(sorted(name for name, version in targets.items() if lands.get(name) != version))


def _needs(one: Installed, state: Mapping[str, Installed], going: Iterable[str]) -> set[str]:
    going = set(going)
    needed = set()
    for clause in parse_depends(one.depends):
        names = {alternative.name for alternative in clause}
        satisfied = {name for name, other in state.items() if name in names or names & set(other.provides)}
        if satisfied and satisfied <= going:
            needed |= satisfied
    return needed
