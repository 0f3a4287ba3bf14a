"""The lock of one environment that has more in it than its release and requirements file: see added.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import LockError, StackError
from ..records.distributions import listing_digest
from ..records.lockfile import Lock, read_lock, read_lock_if_whole
from ..tables.load import Tables
from .added import Added, added_inputs_sha256, added_path, added_request, project_of, shortened
from .compile import Wheels
from .inputs import LockRequest, UnsatisfiableError, lock_inputs
from .resolver import LockOutcome, resolve_lock
from .wheel_files import WheelFiles


def read_base(path: str) -> Lock:
    lock = read_lock(path)
    if lock is None:
        raise LockError(f"The lock {path}, which the plan is based on, is gone. Run again.")
    return lock


@dataclass(frozen=True)
class PackageIndex:
    """The package index as of `cutoff`; `uv` gives the path of uv."""

    uv: Callable[[], str]
    cutoff: str
    url: str | None
    files: WheelFiles


def extend_lock(
    request: LockRequest,
    base: Lock,
    added: Added,
    tables: Tables,
    index: PackageIndex,
    explain: Callable[[UnsatisfiableError], UnsatisfiableError],
) -> LockOutcome:
    """The lock of `base` with the added lines, as it should be on disk; nothing is written.

    What is in the base keeps its version wherever the lines allow that, and so does what was in the environment.
    """
    try:
        return _extend(request, base, added, tables, index)
    except UnsatisfiableError as error:
        raise explain_refusal(explain(error), added) from error
    except LockError as error:
        raise explain_refusal(error, added) from error


def _extend(request: LockRequest, base: Lock, added: Added, tables: Tables, index: PackageIndex) -> LockOutcome:
    origins = Origins(added, index.files)

    def resolve(added: Added) -> Lock:
        return resolve_lock(
            lock_inputs(added_request(request, added), tables),
            uv=index.uv,
            cutoff=index.cutoff,
            index_url=index.url,
            preferences={**added.versions, **base.packages},
            list_files=index.files,
            reader=index.files,
            check_wheels=origins,
        )

    lock = resolve(added)
    # What was required on another Python only, or by an extra, does not come by itself.
    left = [pin for pin in added.pins if project_of(pin) not in lock.packages]
    if left:
        added = replace(added, lines=tuple(sorted({*added.lines, *left})))
        lock = resolve(added)
    path = added_path(added.directory, base, added.lines)
    inputs_sha256 = added_inputs_sha256(base, added.lines)
    lock = replace(lock, requirements=base.requirements, inputs_sha256=inputs_sha256, added=added.lines)
    previous = read_lock_if_whole(path)
    if previous is not None and replace(lock, cutoff=previous.cutoff) == previous:
        lock = previous
    return LockOutcome(path, lock, previous, tuple(dict.fromkeys(origins.notes)), before=added.versions)


class NamesakeError(UnsatisfiableError):
    """The index has something else under a name and version than what was found in an environment."""


def explain_refusal(error: LockError, added: Added) -> LockError:
    """`error` with what it is about, and what to do: its reason first, since a screen has room for a few lines."""
    if isinstance(error, NamesakeError):
        return error
    about = "" if added.to in error.message else f" A lock with {shortened(added.lines)} was to be made for {added.to}."
    way = (
        "Nothing was changed: uninstall what is in the way, or set tensorflow_additions to drop to continue without "
        "what was installed by hand."
        if added.listings
        else "Nothing was changed; make add REMOVE= takes out what was added before."
    )
    return LockError(f"{error.message.rstrip()}{about} {way}", **error.details)


@dataclass
class Origins:
    """Refuses a namesake: what was found in an environment must be what the index has under its name and version."""

    added: Added
    files: WheelFiles

    def __post_init__(self) -> None:
        self.notes: list[str] = []

    def __call__(
        self, wheels: Wheels, versions: Mapping[str, str], newer_wheels: Callable[[Sequence[str]], Wheels]
    ) -> None:
        doubtful = [name for name in sorted(self.added.listings.keys() & wheels.keys()) if not self._has(name, wheels)]
        # pip takes a wheel for the glibc of the node, if there is one that is newer than the lock's.
        others = newer_wheels(doubtful) if doubtful else {}
        strangers = [f"{name} {versions[name]}" for name in doubtful if not self._has(name, others)]
        if strangers:
            raise NamesakeError(
                f"{', '.join(strangers)} in {self.added.to} did not come from this package index: it has other files "
                "under the same name and version. Nothing was changed. Uninstall it, or say by make add "
                f"PACKAGES={strangers[0].replace(' ', '==')} that the index's is meant."
            )

    def _has(self, name: str, wheels: Wheels) -> bool:
        for wheel in wheels.get(name, ()):
            found = self.files({name: wheel})
            if name not in found:
                self.notes.append(f"It is unknown whether {name} in {self.added.to} is that of the package index.")
                return True
            if listing_digest({path: size for path, (size, _) in found[name].items()}) == self.added.listings[name]:
                return True
        return False


def added_from(options: Mapping[str, Any]) -> Added:
    """From the option `added` of `tensorflow_lock`."""
    try:
        return Added(**{**options, "lines": tuple(options["lines"]), "pins": tuple(options["pins"])})
    except TypeError as error:
        raise StackError(f"added is not what tensorflow_stack_info returns: {error}.") from error
