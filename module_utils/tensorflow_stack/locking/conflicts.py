"""Why a user's file has no solution with a release on any Python, and what would resolve it with the fewest changes."""

from __future__ import annotations

from collections.abc import Sequence

from packaging.version import Version

from ..errors import LockError, StackError
from ..tables.load import Tables
from .blame import Blame, Conflict, Lookup, users_lines
from .clash_ways import explain_clash
from .compile import ClashError, depends_on_python
from .inputs import LockInputs, UnsatisfiableError
from .other_targets import fitting_torch, other_pythons, other_releases

# More lines at fault than this are found no more; a file with so many is written for another time.
_MOST_CONFLICTS = 24


def explain(errors: Sequence[UnsatisfiableError], tables: Tables, index: Lookup) -> UnsatisfiableError:
    """One error for those of a flavour, each of another Python: that of the Python with the fewest lines at fault.

    It has every such line, where its opposite comes from, and what would resolve it.
    """
    last = errors[-1]
    known = [error for error in errors if error.inputs is not None and error.inputs.request.requirements is not None]
    if not known:
        return last
    clashes = [error for error in known if isinstance(error, ClashError)]
    try:
        if clashes:
            inputs = clashes[-1].inputs
            assert inputs is not None
            return explain_clash(clashes[-1], inputs, tables, index)
        return _nearest(known, tables, index)
    except UnsatisfiableError:
        raise
    except (LockError, StackError):
        # The index went away while it was asked again.
        return last


def explain_shortly(error: UnsatisfiableError, index: Lookup) -> str:
    """The first of what is at fault, without resolving anything again."""
    inputs = error.inputs
    if inputs is None or inputs.request.requirements is None or isinstance(error, ClashError):
        return error.message
    try:
        blame = Blame(inputs, index)
        blame.ask_index()
        first = next(iter(blame.conflicts.values()), None) or blame.first(error.reason)
    except StackError:
        return error.message
    more = f" (and {len(blame.conflicts) - 1} more lines)" if len(blame.conflicts) > 1 else ""
    return f"{first.described}{more}" if first else error.message


def _nearest(errors: Sequence[UnsatisfiableError], tables: Tables, index: Lookup) -> UnsatisfiableError:
    blames = [Blame(error.inputs, index) for error in errors if error.inputs]
    index.offers.read({line.project for blame in blames for line in users_lines(blame.inputs)})
    for blame in blames:
        blame.ask_index()
    by_hope = sorted(blames, key=lambda blame: (len(blame.conflicts), -_minor(blame.inputs)))
    best: Blame | None = None
    for blame in by_hope:
        if best is None:
            most = _MOST_CONFLICTS
        elif all(conflict.is_resolved for conflict in best.conflicts.values()):
            most = len(best.conflicts) - 1
        else:
            most = len(best.conflicts)
        if len(blame.conflicts) > most:
            continue
        is_found = blame.find(most)
        if best is None or (is_found and _rank(blame) < _rank(best)):
            best = blame
    assert best is not None
    error = next(error for error in errors if error.inputs is best.inputs)
    if not best.conflicts:
        return error
    is_nearest = any(len(blame.conflicts) > len(best.conflicts) for blame in blames)
    return _told(error, best, len(errors) == 1, is_nearest, tables, index)


def _rank(blame: Blame) -> tuple[int, int]:
    return len(blame.conflicts), sum(not conflict.is_resolved for conflict in blame.conflicts.values())


def _minor(inputs: LockInputs) -> int:
    return Version(inputs.request.python).minor


def _told(
    error: UnsatisfiableError, blame: Blame, is_only: bool, is_nearest: bool, tables: Tables, index: Lookup
) -> UnsatisfiableError:
    inputs = blame.inputs
    conflicts = list(blame.conflicts.values())
    ways = _ways(error, blame, is_only, is_nearest, tables, index)
    if len(conflicts) == 1:
        message = f"{inputs.request} cannot be installed with {conflicts[0]}. {' '.join([*ways, 'Change the line.'])}"
    else:
        rows = [f"  {conflict}" for conflict in conflicts]
        head = f"{inputs.request} cannot be installed with {len(rows)} lines:"
        message = "\n".join([head, *rows, " ".join([*ways, "Change the lines."])])
    return UnsatisfiableError(
        message,
        conflicts=[
            {
                "lines": [{"text": line.text, "where": line.where} for line in conflict.lines],
                "meets": conflict.meets,
                "fitting": conflict.fitting,
                "sources": list(conflict.sources),
            }
            for conflict in conflicts
        ],
        **error.details,
    )


def _ways(
    error: UnsatisfiableError, blame: Blame, is_only: bool, is_nearest: bool, tables: Tables, index: Lookup
) -> list[str]:
    inputs, conflicts = blame.inputs, list(blame.conflicts.values())
    ways = []
    if is_nearest:
        ways.append(f"Python {inputs.request.python} needs the fewest changes: set tensorflow_python to it.")
    sources = list(dict.fromkeys(name for conflict in conflicts for name in conflict.sources))
    if sources:
        ways.append(
            f"Sources are built only if you allow it: set tensorflow_source_builds to [{', '.join(sources)}]; "
            "docs/requirements.md says what that means."
        )
    is_of_python = depends_on_python(error.reason) or any(conflict.offer for conflict in conflicts)
    if is_only and is_of_python and not sources:
        ways += other_pythons(inputs, tables, index)
    if not ways and not any(conflict.offer for conflict in conflicts):
        cuda_ways = _cuda_ways(conflicts, inputs)
        # Releases have CUDA wheels of many versions, and none that any torch has but the one of the table.
        if cuda_ways and "torch" in blame.conflicts:
            return [*ways, *cuda_ways, *fitting_torch(tables, inputs.request.release)]
        ways += [*cuda_ways, *other_releases(inputs, tables, index)]
    return ways


def _cuda_ways(conflicts: Sequence[Conflict], inputs: LockInputs) -> list[str]:
    """If versions of CUDA's wheels exclude each other, TensorFlow can have its CUDA from elsewhere."""
    if inputs.request.flavour == "cpu" or not any("nvidia-" in conflict.meets for conflict in conflicts):
        return []
    return ["With cuda_source set to nvidia_repo or redist TensorFlow needs none of CUDA's wheels."]
