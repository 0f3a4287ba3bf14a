"""The ways out if two distributions of a lock install one path."""

from __future__ import annotations

from ..errors import LockError
from ..requirements.parse import TENSORFLOW_PROJECTS
from ..tables.load import Tables
from .blame import Lookup, bringing, placed, users_lines, without_clash
from .compile import ClashError
from .inputs import LockInputs, UnsatisfiableError
from .other_targets import fitting_torch, other_releases

_SHOWN_PATHS = 3
_TORCH_FOR_THE_CPU = "A build of torch for the CPU, from an index of your own (tensorflow_index_url), needs no CUDA."


def explain_clash(error: ClashError, inputs: LockInputs, tables: Tables, index: Lookup) -> UnsatisfiableError:
    """`error` with the ways out: other versions of the user's lines that bring one of the two, or another release."""
    names = {name for clash in error.clashes for name in (clash.first, clash.second)}
    lines = [line for line in users_lines(inputs) if line.project in bringing(error, names) - {*TENSORFLOW_PROJECTS}]
    named = [line for line in lines if line.project in names]
    projects = [*dict.fromkeys(line.project for line in lines)]
    ways = []
    try:
        if named:
            # Two builds of one project: whichever stays, the other is not needed.
            remedy = "Leave out" if len(named) == 1 else "Leave out all but one of"
            ways.append(f"{remedy} {' and '.join(map(placed, named))}: the other installs the same files.")
        else:
            fitting = without_clash(error, inputs, projects, index.resolve) if projects else {}
            ways += [f"{project} {version} would fit." for project, version in fitting.items()]
            if not fitting:
                is_torch = "torch" in projects
                release = inputs.request.release
                ways += fitting_torch(tables, release) if is_torch else other_releases(inputs, tables, index)
            if "torch" in projects:
                ways.append(_TORCH_FOR_THE_CPU)
            change = f"Change or leave out {' or '.join(map(placed, lines))}, or lock" if lines else "Lock"
            ways.append(f"{change} the two from files of their own, for environments of their own.")
    except UnsatisfiableError:
        raise
    except LockError:
        # The index went away while it was asked again.
        return error
    return UnsatisfiableError(
        f"{error.message} {' '.join(ways)}",
        clashes=[
            {"distributions": [clash.first, clash.second], "paths": list(clash.paths[:_SHOWN_PATHS])}
            for clash in error.clashes
        ],
        **error.details,
    )
