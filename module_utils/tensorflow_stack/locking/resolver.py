"""Make locks: what is resolved anew, what stays, and what has changed since."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from ..errors import LockError
from ..records.lockfile import Distribution, Lock, LockedConstraint, read_lock
from ..tables.load import Tables
from .compile import Compiler, Runner, WheelChecker, run_command
from .inputs import InputLine, LockInputs, LockRequest, UnsatisfiableError, lock_inputs
from .wheel_files import FileLister, FileReader

MOST_THREADS = 8
# What a source distribution is built with, unless it says otherwise.
_BUILD_REQUIREMENTS = ("setuptools", "wheel")


@dataclass(frozen=True)
class LockOutcome:
    """A lock as it should be, and as it was."""

    path: str
    lock: Lock
    previous: Lock | None
    notes: tuple[str, ...]
    # What the environment in use has, if the lock is for one alone.
    before: Mapping[str, str] | None = None

    @property
    def state(self) -> str:
        if self.previous is None:
            return "created"
        return "unchanged" if self.previous == self.lock else "updated"

    @property
    def packages_before(self) -> Mapping[str, str]:
        if self.before is not None:
            return self.before
        return self.previous.packages if self.previous else {}

    @property
    def changes(self) -> dict[str, list[str]]:
        before = self.packages_before
        after = self.lock.packages
        return {
            "added": [f"{name}=={after[name]}" for name in sorted(after.keys() - before.keys())],
            "removed": [f"{name}=={before[name]}" for name in sorted(before.keys() - after.keys())],
            "changed_versions": [
                f"{name} {before[name]} -> {after[name]}"
                for name in sorted(after.keys() & before.keys())
                if before[name] != after[name]
            ],
        }

    @property
    def summary(self) -> str:
        signs = {"added": "+ ", "removed": "- ", "changed_versions": ""}
        changes = [sign + change for kind, sign in signs.items() for change in self.changes[kind]]
        is_compared = self.state == "updated" or self.before is not None
        what = ": " + (", ".join(changes) or "the same versions") if is_compared else ""
        return f"{self.state}  {self.path}{what}"


@dataclass(frozen=True)
class LockRun:
    outcomes: tuple[LockOutcome, ...]
    skipped: tuple[tuple[LockRequest, UnsatisfiableError], ...]


def resolve_lock(
    inputs: LockInputs,
    *,
    uv: Callable[[], str],
    cutoff: str,
    index_url: str | None = None,
    upgrade: bool = False,
    previous: Lock | None = None,
    runner: Runner = run_command,
    list_files: FileLister | None = None,
    reader: FileReader | None = None,
    preferences: Mapping[str, str] | None = None,
    check_wheels: WheelChecker | None = None,
) -> Lock:
    """The lock for `inputs`.

    `previous` stays while the same goes in, unless `upgrade` asks the index again. Where something else goes
    in, its versions stay wherever they still fit. `uv` gives the path of uv, and is called only when needed.
    With `list_files` distributions that install one path are refused. `preferences` are versions that stay wherever
    they fit if there is no `previous`.
    """
    if previous is not None and not upgrade and previous.inputs_sha256 == inputs.sha256:
        return previous
    compiler = Compiler(inputs.request, uv(), cutoff, index_url, runner, list_files, reader=reader)
    staying = previous.packages if previous is not None and not upgrade else {}
    distributions = replace(compiler, check_wheels=check_wheels).run(inputs, preferences or staying)
    built_with: list[Distribution] = []
    if any(distribution.from_source for distribution in distributions):
        lines = _build_lines(compiler, distributions)
        built_with = compiler.run(LockInputs(inputs.request, lines, ()), {})
    request = inputs.request
    installed = {distribution.name for distribution in distributions}
    lock = Lock(
        release=request.release,
        python=request.python,
        platform=request.platform,
        flavour=request.flavour,
        requirements=tuple(sorted({line.text for line in inputs.requirements})),
        constraints=tuple(
            LockedConstraint(line.text, line.symptom)
            for line in sorted((*inputs.requirements, *inputs.constraints, *inputs.limits), key=lambda line: line.text)
            if line.symptom and line.project in installed
        ),
        inputs_sha256=inputs.sha256,
        cutoff=cutoff,
        distributions=tuple(distributions),
        without=tuple(name for name in inputs.without if name not in installed),
        built_with=tuple(built_with),
    )
    # A later look at the index that found nothing new is no change.
    if previous is not None and replace(lock, cutoff=previous.cutoff) == previous:
        return previous
    return lock


def _build_lines(compiler: Compiler, distributions: Iterable[Distribution]) -> tuple[InputLine, ...]:
    texts: list[str] = []
    for found in distributions:
        record = compiler.sources.get((found.name, found.version))
        if found.from_source:
            texts += record.built_with if record else _BUILD_REQUIREMENTS
    return tuple(InputLine(text, "what source distributions are built with") for text in dict.fromkeys(texts))


def resolve_versions(
    inputs: LockInputs,
    *,
    uv: str,
    cutoff: str,
    index_url: str | None = None,
    runner: Runner = run_command,
    list_files: FileLister | None = None,
    reader: FileReader | None = None,
) -> dict[str, str]:
    """Project to version, as a lock made of `inputs` from nothing would have them."""
    compiler = Compiler(inputs.request, uv, cutoff, index_url, runner, list_files, reader=reader)
    return {distribution.name: distribution.version for distribution in compiler.run(inputs, {})}


def make_locks(
    requests: Iterable[LockRequest],
    tables: Tables,
    *,
    directory: str,
    uv: Callable[[], str],
    cutoff: str,
    index_url: str | None = None,
    upgrade: bool = False,
    skip_unsatisfiable: bool = False,
    runner: Runner = run_command,
    list_files: FileLister | None = None,
    reader: FileReader | None = None,
) -> LockRun:
    """Every lock of `requests` as it should be below `directory`; nothing is written.

    With `skip_unsatisfiable` a target that has no solution is left out. Otherwise the first one ends the run.
    """

    def make(request: LockRequest) -> LockOutcome | UnsatisfiableError:
        path = request.path_in(directory)
        previous = _read_previous(path, upgrade=upgrade)
        try:
            inputs = lock_inputs(request, tables)
            lock = resolve_lock(
                inputs,
                uv=uv,
                cutoff=cutoff,
                index_url=index_url,
                upgrade=upgrade,
                previous=previous,
                runner=runner,
                list_files=list_files,
                reader=reader,
            )
        except UnsatisfiableError as error:
            if not skip_unsatisfiable:
                raise
            return error
        return LockOutcome(path, lock, previous, inputs.notes)

    requests = [*requests]
    # Each resolution is a process of its own, which waits for the index and uses one core in between.
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        made = [*zip(requests, pool.map(make, requests), strict=True)]
    outcomes = [found for _, found in made if isinstance(found, LockOutcome)]
    skipped = [(request, found) for request, found in made if isinstance(found, UnsatisfiableError)]
    return LockRun(tuple(outcomes), tuple(skipped))


def _read_previous(path: str, *, upgrade: bool) -> Lock | None:
    try:
        return read_lock(path)
    except LockError:
        # An upgrade makes everything anew, a damaged lock included.
        if upgrade:
            return None
        raise
