"""Other Pythons and other releases of TensorFlow with which a whole file has a solution."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from packaging.version import Version

from ..errors import LockError
from ..requirements.parse import TENSORFLOW_PROJECTS
from ..tables.load import Tables
from .blame import Blame, Lookup, users_lines
from .inputs import LockInputs, LockRequest, UnsatisfiableError, lock_inputs

_MOST_RELEASES = 12
_SHOWN_RELEASES = 5
# Resolutions at once: each is a process that uses one core.
THREADS = 2


def other_pythons(inputs: LockInputs, tables: Tables, index: Lookup) -> list[str]:
    for python in reversed(inputs.other_pythons):
        request = replace(inputs.request, python=python)
        if _has_wheels(request, tables, index) and _can_be_had(request, tables, index):
            return [f"With tensorflow_python {python} the whole file can be installed."]
    return []


def _has_wheels(request: LockRequest, tables: Tables, index: Lookup) -> bool:
    """Has the index a wheel for each line? Asking it costs nothing, and a resolution some seconds."""
    try:
        blame = Blame(lock_inputs(request, tables), index)
    except LockError:
        return False
    blame.ask_index()
    return not blame.conflicts


def other_releases(inputs: LockInputs, tables: Tables, index: Lookup) -> list[str]:
    """The nearest release that fits the whole file but its line for TensorFlow."""
    request = inputs.request
    users = request.requirements
    if users is None:
        return []
    freed = replace(
        users,
        requirements=[wish for wish in users.requirements if wish.project not in TENSORFLOW_PROJECTS],
        constraints=[limit for limit in users.constraints if limit.project not in TENSORFLOW_PROJECTS],
    )
    own = [line for line in users_lines(inputs) if line.project not in TENSORFLOW_PROJECTS]
    try:
        index.resolve(replace(inputs, requirements=tuple(own), constraints=(), without=()))
    except UnsatisfiableError:
        return ["No other TensorFlow release helps: the lines have no solution without TensorFlow either."]
    tried = _nearest_releases(tables, request)[:_MOST_RELEASES]

    def fits(version: str) -> bool:
        return _can_be_had(replace(request, release=version, requirements=freed), tables, index)

    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(tried), THREADS):
            some = tried[start : start + THREADS]
            for version, is_fitting in zip(some, pool.map(fits, some), strict=True):
                if is_fitting:
                    return [f"The nearest TensorFlow release that fits the rest of the file is {version}."]
    return [f"No TensorFlow release that was tried fits the rest of the file ({_shortened(tried)})."] if tried else []


def fitting_torch(tables: Tables, release: str) -> list[str]:
    """By the table, which costs no resolution."""
    row = tables.torch_for(release)
    if row is None:
        return []
    return [f"With CUDA as wheels, torch {row.torch} fits TensorFlow {row.release} on Python {row.python}."]


def _shortened(versions: Sequence[str]) -> str:
    others = len(versions) - _SHOWN_RELEASES
    return ", ".join(versions) if others <= 1 else f"{', '.join(versions[:_SHOWN_RELEASES])} and {others} others"


def _nearest_releases(tables: Tables, request: LockRequest) -> list[str]:
    """The newest patch of each minor that has a wheel for the target, the nearest minor first, the newer before."""
    newest: dict[tuple[int, ...], str] = {}
    for release in tables.releases:
        if request.python in release.pythons.get(request.architecture, ()):
            newest[Version(release.version).release[:2]] = release.version
    minors = [*newest]
    own = Version(request.release).release[:2]
    position = minors.index(own)
    by_distance = sorted(minors, key=lambda minor: (abs(minors.index(minor) - position), minor < own))
    return [newest[minor] for minor in by_distance if newest[minor] != request.release]


def _can_be_had(request: LockRequest, tables: Tables, index: Lookup) -> bool:
    try:
        inputs = lock_inputs(request, tables)
    except LockError:
        # No such target, for example without wheels of CUDA.
        return False
    try:
        index.resolve(inputs)
    except UnsatisfiableError:
        return False
    return True
