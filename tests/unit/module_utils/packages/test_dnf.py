"""dnf on a double of its Python interface; the real one is in tests/integration/test_packages_dnf.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import total_ordering
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.errors import BusyError, RefusedError, StackError
from ansible.module_utils.tensorflow_stack.packages import dnf as dnf_manager
from ansible.module_utils.tensorflow_stack.packages import dnf_python
from ansible.module_utils.tensorflow_stack.packages.dnf import Dnf, DnfSolution
from ansible.module_utils.tensorflow_stack.packages.dnf_python import DnfPython, read_enabled_stream, version_of
from ansible.module_utils.tensorflow_stack.packages.dnf_solver import DnfSolver
from ansible.module_utils.tensorflow_stack.packages.model import (
    ClosurePlan,
    InstalledPackage,
    PackageRequest,
    StreamChange,
    Transaction,
    WantedPackage,
)
from ansible.module_utils.tensorflow_stack.packages.record import PackagesRecord, asked_of


class Error(Exception): ...


class LockError(Error):
    pid = 4711


class MarkingErrors(Error): ...


class DepsolveError(Error): ...


class RepoError(Error): ...


@total_ordering
@dataclass(frozen=True)
class Rpm:
    name: str
    version: str
    release: str = "1.el8"
    epoch: int = 0
    arch: str = "x86_64"
    requires: tuple[str, ...] = ()
    summary: str = ""

    def __lt__(self, other: Rpm) -> bool:
        return (self.name, self.version) < (other.name, other.version)

    def __str__(self) -> str:
        return f"{self.name}-{self.version}-{self.release}.{self.arch}"


class Query(list[Rpm]):
    def filter(self, **conditions: Any) -> Query:
        ((condition, values),) = conditions.items()
        if condition == "pkg":
            return Query(one for one in self if one in values)
        if condition == "provides":
            return Query(one for one in self if one.name in values)
        assert condition == "requires"
        return Query(one for one in self if {value.name for value in values} & set(one.requires))

    def apply(self) -> Query:
        return self

    def installed(self) -> Query:
        raise NotImplementedError


@dataclass
class Base:
    """A dnf.Base that installs what it is asked to, with everything that is required."""

    installed: list[Rpm]
    available: list[Rpm] = field(default_factory=list)
    streams: dict[str, list[str]] = field(default_factory=dict)
    enabled: dict[str, str | None] = field(default_factory=dict)
    excluded: list[Rpm] = field(default_factory=list)
    fails: Exception | None = None
    signatures: list[tuple[int, str]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.conf = SimpleNamespace(installonlypkgs=["kernel"], pluginpath=["/nowhere"])
        self.sack = self
        self.reset(goal=True)

    def query(self, flags: int = 0) -> Any:
        every = Query({*self.installed, *self.available} - set(self.excluded))
        every.installed = lambda: Query(self.installed)  # type: ignore[method-assign]
        every.available = lambda: Query(  # type: ignore[attr-defined]
            one for one in self.available if one not in self.excluded and self._is_of_enabled_stream(one)
        )
        return every

    def _is_of_enabled_stream(self, one: Rpm) -> bool:
        names = {name for names in self.streams.values() for name in names}
        stream = self.enabled.get("nvidia-driver")
        return one.name not in names or (stream is not None and one.name in self.streams[stream])

    def reset_excludes(self) -> None:
        self.excluded = []

    def add_excludes(self, packages: Iterable[Rpm]) -> None:
        self.excluded += packages

    def reset(self, *, goal: bool) -> None:
        self.enabled.clear()
        self.transaction = SimpleNamespace(install_set=[], remove_set=[])

    def package_install(self, package: Rpm, strict: bool) -> None:
        old = [one for one in self.installed if one.name == package.name]
        self.transaction.install_set.append(package)
        self.transaction.remove_set += old

    package_downgrade = package_install

    def package_remove(self, package: Rpm) -> None:
        self.transaction.remove_set.append(package)

    def resolve(self, allow_erasing: bool) -> None:
        if self.fails:
            raise self.fails
        there = {one.name for one in [*self.installed, *self.transaction.install_set]}
        for package in list(self.transaction.install_set):
            for name in set(package.requires) - there:
                self.transaction.install_set.append(max(one for one in self.query().available() if one.name == name))

    def download_packages(self, packages: list[Rpm]) -> None:
        self.done.append("download")
        if self.fails:
            raise self.fails

    def package_signature_check(self, package: Rpm) -> tuple[int, str]:
        return self.signatures.pop(0) if self.signatures else (0, "")

    def package_import_key(self, package: Rpm) -> None:
        self.done.append("import key")

    def do_transaction(self, display: list[Any]) -> None:
        display[0].scriptout("scriptlet: hello")
        display[0].error("error: bye")
        if self.fails:
            raise self.fails

    def close(self) -> None: ...


class ModuleBase:
    def __init__(self, base: Base) -> None:
        self.base = base

    def enable(self, specs: list[str]) -> None:
        for spec in specs:
            module, _, stream = spec.partition(":")
            if stream not in self.base.streams:
                raise MarkingErrors(f"Problems in request:\nmissing groups or modules: {spec}")
            self.base.enabled[module] = stream

    def reset(self, modules: list[str]) -> None:
        if not self.base.streams:
            raise MarkingErrors(f"missing groups or modules: {modules[0]}")
        self.base.done += [f"reset {module}" for module in modules]

    def get_modules(self, module: str) -> tuple[list[Any], None]:
        return [SimpleNamespace(getStream=lambda name=name: name) for name in self.base.streams], None


def interface(*, lock_timeout: float = 0) -> DnfPython:
    modules = {
        "dnf": SimpleNamespace(
            exceptions=SimpleNamespace(
                Error=Error,
                LockError=LockError,
                MarkingErrors=MarkingErrors,
                DepsolveError=DepsolveError,
                RepoError=RepoError,
            ),
            rpm=SimpleNamespace(basearch=lambda arch: arch),
            callback=SimpleNamespace(TransactionProgress=object),
            Base=lambda: SimpleNamespace(conf=SimpleNamespace(read=lambda: None, pluginpath=["/nowhere"])),
        ),
        "hawkey": SimpleNamespace(detect_arch=lambda: "x86_64", IGNORE_EXCLUDES=1),
        "dnf.module.module_base": SimpleNamespace(ModuleBase=ModuleBase),
        "rpm": SimpleNamespace(labelCompare=lambda left, right: (left > right) - (left < right)),
    }
    return DnfPython(lock_timeout=lock_timeout, import_module=modules.__getitem__)


DRIVER, LIBRARIES = Rpm("driver", "535.2", epoch=3, requires=("libs",)), Rpm("libs", "535.2", epoch=3)
NEWER = [Rpm("driver", "580.1", epoch=3, requires=("libs",)), Rpm("libs", "580.1", epoch=3)]
REQUEST = PackageRequest("driver", "nvidia_repo", (WantedPackage("driver", "535.*"),), ("driver", "libs"), "535")


def solve(base: Base, request: PackageRequest = REQUEST, **recorded: str) -> ClosurePlan:
    state = {one.name: InstalledPackage(one.name, version_of(one), one.arch) for one in base.installed}
    return DnfSolver(interface(), base, request, state, ()).plan(recorded)


def test_closure_is_of_the_requested_version_though_newer_ones_are_available() -> None:
    plan = solve(Base([], [DRIVER, LIBRARIES, *NEWER]))
    assert [(one.name, one.version) for one in plan.closure] == [
        ("driver", "3:535.2-1.el8"),
        ("libs", "3:535.2-1.el8"),
    ]
    assert plan.transaction == Transaction(install={"driver": "3:535.2-1.el8", "libs": "3:535.2-1.el8"})
    assert plan.stream is None


def test_package_of_the_closure_that_has_another_version_is_moved() -> None:
    plan = solve(Base([NEWER[1]], [DRIVER, LIBRARIES, *NEWER]))
    assert plan.transaction.downgrade == {"libs": "3:535.2-1.el8"}


def test_what_dnf_says_against_it_is_the_refusal() -> None:
    base = Base([], [DRIVER, LIBRARIES], fails=DepsolveError("nothing provides\n  egl"))
    with pytest.raises(RefusedError, match="dnf cannot install driver 535.* on this node: nothing provides egl[.]"):
        solve(base)


STREAMS = {"535-dkms": ["driver", "libs"], "580-open": ["libs"]}


def test_stream_is_enabled_in_every_try(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dnf_python, "MODULES", str(tmp_path / "{}.module"))
    base = Base([], [DRIVER, LIBRARIES, *NEWER], streams=STREAMS)
    plan = solve(base, _with_stream("535-dkms"))
    assert plan.stream == StreamChange("nvidia-driver", before=None, after="535-dkms") and plan
    assert base.enabled == {"nvidia-driver": "535-dkms"}, "a reset of the goal undoes it"
    (tmp_path / "nvidia-driver.module").write_text("[nvidia-driver]\nstream=535-dkms\nstate=enabled\n")
    assert solve(Base([DRIVER, LIBRARIES], [DRIVER, LIBRARIES]), _with_stream("535-dkms")).stream is None


def test_stream_that_no_repository_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dnf_python, "MODULES", str(tmp_path / "{}.module"))
    with pytest.raises(RefusedError) as caught:
        solve(Base([], [DRIVER, LIBRARIES], streams=STREAMS), _with_stream("525-dkms"))
    assert caught.value.message == (
        "dnf cannot enable the module stream nvidia-driver:525-dkms of this node's repositories: Problems in request: "
        "missing groups or modules: nvidia-driver:525-dkms. Their streams of nvidia-driver are: 535-dkms, 580-open. "
        "Request another branch of the driver, or add a repository that has this stream. Nothing was changed."
    )


def _with_stream(name: str) -> PackageRequest:
    return PackageRequest(
        REQUEST.component, REQUEST.source, REQUEST.packages, REQUEST.name_patterns, stream=f"nvidia-driver:{name}"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[nvidia-driver]\nname=nvidia-driver\nprofiles=\nstate=enabled\nstream=580-open\n", "580-open"),
        ("[nvidia-driver]\nname = nvidia-driver\nstream = 580-open \nstate = enabled\n", "580-open"),
        ("[nvidia-driver]\nname=nvidia-driver\nstream=580-open\nstate=disabled\n", None),
        ("[nvidia-driver]\nname=nvidia-driver\nprofiles=\nstate=\nstream=\n", None),
        ("[nvidia-driver]\nstate=enabled\nstream=\n", None),
        ("", None),
        (None, None),
    ],
)
def test_enabled_stream(
    text: str | None, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dnf_python, "MODULES", str(tmp_path / "{}.module"))
    if text is not None:
        (tmp_path / "nvidia-driver.module").write_text(text)
    assert read_enabled_stream("nvidia-driver") == expected


def test_lock_that_is_not_freed_names_its_holder() -> None:
    def locked() -> None:
        raise LockError

    with pytest.raises(BusyError, match=r"A lock of dnf is held by process 4711 \(.*\); waited 0 s. Run again"):
        interface().waiting(locked)


def test_lock_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnf_python, "_POLL_SECONDS", 0.01)
    tries: list[int] = []

    def locked_once() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise LockError
        return "done"

    assert interface(lock_timeout=60).waiting(locked_once) == "done"


def test_versionlock_has_to_be_there() -> None:
    with pytest.raises(StackError, match="dnf install python3-dnf-plugin-versionlock"):
        interface().require_versionlock()


@pytest.mark.parametrize(
    ("package", "name", "version"),
    [
        (DRIVER, "driver", "3:535.2-1.el8"),
        (Rpm("libs", "1", arch="i686"), "libs:i686", "1-1.el8"),
        (Rpm("config", "1", arch="noarch"), "config", "1-1.el8"),
    ],
)
def test_name_and_version_of_an_rpm(package: Rpm, name: str, version: str) -> None:
    assert (interface().name(package), version_of(package)) == (name, version)


# --- Having it done -----------------------------------------------------------------------------------


PLAN = ClosurePlan((), Transaction(install={"driver": "3:535.2-1.el8"}))


def solution(base: Base) -> DnfSolution:
    base.transaction.install_set = [DRIVER]
    return DnfSolution(PLAN, interface(), base)


def test_file_that_is_gone_is_an_error_before_anything_changes() -> None:
    with pytest.raises(StackError, match="Not every file of driver-535.2-1.el8.x86_64 could be fetched: 404 gone[.] "):
        solution(Base([], fails=Error("404\ngone"))).download()


def test_signature_that_is_not_good() -> None:
    with pytest.raises(StackError, match="The signature of driver-535.2-1.el8.x86_64 is not valid: bad"):
        solution(Base([], signatures=[(2, "bad")])).download()


def test_key_of_the_repository_is_imported_once() -> None:
    base = Base([], signatures=[(1, "no key"), (0, "")])
    solution(base).download()
    assert base.done == ["download", "import key"]


def test_what_the_transaction_printed_is_kept() -> None:
    assert solution(Base([])).apply() == "scriptlet: hello\nerror: bye"
    assert solution(Base([], fails=Error("rpm failed"))).apply() == "scriptlet: hello\nerror: bye\nrpm failed"


# --- The node -----------------------------------------------------------------------------------------


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Base], Dnf]:
    monkeypatch.setattr(dnf_manager, "LOCKS", str(tmp_path / "versionlock.list"))
    monkeypatch.setattr(dnf_manager, "AUTOMATIC", str(tmp_path / "automatic.conf"))
    (tmp_path / "versionlock.list").write_text("driver-3:580.1-1.el8.*\n")

    def make(base: Base) -> Dnf:
        python = interface()
        monkeypatch.setattr(python, "open", lambda *, repositories: base)
        monkeypatch.setattr(python, "require_versionlock", lambda: None)
        return Dnf(lock_timeout=0, python=python)

    return make


def test_installed_twice_needs_unpacking(manager: Callable[[Base], Dnf]) -> None:
    state = manager(Base([NEWER[0], DRIVER, LIBRARIES, Rpm("gpg-pubkey", "1"), Rpm("kernel", "1")])).installed()
    assert sorted(state) == ["driver", "libs"]
    assert state["driver"].needs_unpacking and state["driver"].held
    assert state["driver"].trouble == "installed at 3:535.2-1.el8 and 3:580.1-1.el8"
    assert not state["libs"].needs_unpacking and not state["libs"].held


def test_lock_of_somebody_else_is_lifted_by_a_command(manager: Callable[[Base], Dnf]) -> None:
    state = {"driver": InstalledPackage("driver", "1", "x86_64"), "libs": InstalledPackage("libs", "1", "x86_64")}
    assert manager(Base([])).foreign_holds(state, []) == {"driver": "dnf versionlock delete driver"}


def test_lock_of_somebody_else_on_what_is_not_installed(manager: Callable[[Base], Dnf]) -> None:
    dnf = manager(Base([], [DRIVER, LIBRARIES]))
    with pytest.raises(RefusedError, match="driver 3:535.2-1.el8 is needed, but .* has driver-3:580.1-1.el8.*, which"):
        dnf.solve(REQUEST, {}, recorded={}, needs_unpacking=[])


def test_what_is_recorded_is_locked_and_excluded(manager: Callable[[Base], Dnf], tmp_path: Path) -> None:
    (tmp_path / "automatic.conf").write_text("[base]\n")
    plan = solve(Base([], [DRIVER, LIBRARIES]))
    record = PackagesRecord("driver", "nvidia_repo", "535.2", asked_of(REQUEST), plan.closure)
    files = manager(Base([])).hold_files({"driver": record}, "driver")
    locks, automatic = files[str(tmp_path / "versionlock.list")], files[str(tmp_path / "automatic.conf")]
    assert locks is not None and "\ndriver-3:535.2-1.el8.*\nlibs-3:535.2-1.el8.*\n" in locks
    assert automatic is not None and "excludepkgs = driver, libs\n" in automatic


def test_removal_resets_the_module(manager: Callable[[Base], Dnf]) -> None:
    base = Base([DRIVER], streams=STREAMS)
    stream = StreamChange("nvidia-driver", before="535-dkms", after=None)
    plan = manager(base).solve_removal(["driver"], stream).plan
    assert plan == ClosurePlan((), Transaction(remove={"driver": "3:535.2-1.el8"}), stream)
    assert base.done == ["reset nvidia-driver"]
    with pytest.raises(StackError, match=r"dnf cannot reset the module nvidia-driver: .*\(dnf module reset "):
        manager(Base([DRIVER])).solve_removal(["driver"], stream)


def test_needed_by_others(manager: Callable[[Base], Dnf], monkeypatch: pytest.MonkeyPatch) -> None:
    base = Base([DRIVER, LIBRARIES, Rpm("tool", "1")])

    def resolve(allow_erasing: bool) -> None:
        gone = {one.name for one in base.transaction.remove_set}
        base.transaction.remove_set += [one for one in base.installed if gone & set(one.requires)]

    monkeypatch.setattr(base, "resolve", resolve)
    dnf = manager(base)
    monkeypatch.setattr(dnf, "_removal", _fresh(base, dnf._removal))
    assert dnf.needed_by_others(["libs", "tool"], {}) == {"libs"}
    assert dnf.needed_by_others(["libs", "driver"], {}) == set()


def _fresh(base: Base, removal: Callable[[Iterable[str]], Any]) -> Callable[[Iterable[str]], Any]:
    def run(names: Iterable[str]) -> Any:
        base.reset(goal=True)
        return removal(names)

    return run
