"""Why a user's file has no solution with a release, and what would resolve it: found by resolving parts of it again."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from ..errors import LockError
from ..requirements.parse import TENSORFLOW_PROJECTS, applies
from ..tables.load import Tables
from .compile import ClashError, depends_on_python, involved_lines, without_numbers
from .inputs import InputLine, LockInputs, LockRequest, UnsatisfiableError, lock_inputs

# One resolution takes a second, or some with an empty cache.
_MOST_CONFLICTS = 8
_MOST_RELEASES = 12
_SHOWN_PATHS = 3

_TORCH_FOR_THE_CPU = "A build of torch for the CPU, from an index of your own (tensorflow_index_url), needs no CUDA."

# The versions that lock inputs resolve to.
Resolver = Callable[[LockInputs], dict[str, str]]


@dataclass(frozen=True)
class Conflict:
    """Lines of the user for one project, what they meet, and the version that is taken without them."""

    lines: tuple[InputLine, ...]
    meets: str
    fitting: str | None = None

    @property
    def project(self) -> str:
        return self.lines[0].project

    def __str__(self) -> str:
        lines = " and ".join(map(_placed, self.lines))
        if self.is_innocent:
            return f"{lines}: {self.meets}"
        fitting = f"{self.project} {self.fitting} would fit" if self.fitting else f"no release of {self.project} fits"
        return f"{lines}: {self.meets}; {fitting}"

    @property
    def is_innocent(self) -> bool:
        """Is the version that is taken without these lines the one that they ask for? Then another line is at fault."""
        return bool(self.fitting) and all(
            Requirement(line.text).specifier.contains(self.fitting or "", prereleases=True) for line in self.lines
        )


def explain(error: UnsatisfiableError, tables: Tables, resolve: Resolver) -> UnsatisfiableError:
    """`error` with every line in conflict, where its opposite comes from, and what would resolve it."""
    inputs = error.inputs
    if inputs is None or inputs.request.requirements is None:
        return error
    if isinstance(error, ClashError):
        return _explain_clash(error, inputs, tables, resolve)
    try:
        conflicts = _find_conflicts(inputs, error, resolve)
        if not conflicts:
            return error
        remedies = _other_pythons(inputs, tables, resolve) if depends_on_python(error.reason) else []
        remedies = remedies or _other_releases(inputs, tables, resolve)
    except UnsatisfiableError:
        raise
    except LockError:
        # The index went away while it was asked again.
        return error
    message = f"{inputs.request} cannot be installed with {'. '.join(map(str, conflicts))}. {' '.join(remedies)}"
    return UnsatisfiableError(
        f"{message} Change the {'line' if len(conflicts) == 1 else 'lines'}.",
        conflicts=[
            {
                "lines": [{"text": line.text, "where": line.where} for line in conflict.lines],
                "meets": conflict.meets,
                "fitting": conflict.fitting,
            }
            for conflict in conflicts
        ],
        **error.details,
    )


def _explain_clash(error: ClashError, inputs: LockInputs, tables: Tables, resolve: Resolver) -> UnsatisfiableError:
    """`error` with the ways out: other versions of the user's lines that bring one of the two, or another release."""
    names = {name for clash in error.clashes for name in (clash.first, clash.second)}
    lines = [line for line in _users_lines(inputs) if line.project in _bringing(error, names) - {*TENSORFLOW_PROJECTS}]
    named = [line for line in lines if line.project in names]
    projects = [*dict.fromkeys(line.project for line in lines)]
    ways = []
    try:
        if named:
            # Two builds of one project: whichever stays, the other is not needed.
            remedy = "Leave out" if len(named) == 1 else "Leave out all but one of"
            ways.append(f"{remedy} {' and '.join(map(_placed, named))}: the other installs the same files.")
        else:
            fitting = _without_clash(error, inputs, projects, resolve) if projects else {}
            ways += [f"{project} {version} would fit." for project, version in fitting.items()]
            ways += [] if fitting else _other_releases(inputs, tables, resolve)
            if "torch" in projects:
                ways.append(_TORCH_FOR_THE_CPU)
            change = f"Change or leave out {' or '.join(map(_placed, lines))}, or lock" if lines else "Lock"
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


def _placed(line: InputLine) -> str:
    return f"{line.text} ({line.where})"


def _without_clash(error: ClashError, inputs: LockInputs, projects: list[str], resolve: Resolver) -> dict[str, str]:
    """Versions of `projects` with which no two distributions clash, found without one of each two; empty for none."""
    for project in projects:
        inputs = _opened(inputs, project)
    unwanted = _unwanted(error, projects)
    fitting: dict[str, str] = {}
    # What the resolver finds first need not be the newest: it would rather change these than NVIDIA's wheels.
    for _ in range(_MOST_CONFLICTS):
        limits = {*(f"{name}<0" for name in unwanted), *(f"{name}>{version}" for name, version in fitting.items())}
        lines = tuple(InputLine(limit, "looked for") for limit in sorted(limits))
        try:
            versions = resolve(replace(inputs, constraints=(*inputs.constraints, *lines)))
        except ClashError as again:
            more = _unwanted(again, projects)
            if more <= unwanted:
                break
            unwanted |= more
        except UnsatisfiableError:
            break
        else:
            fitting = {project: versions[project] for project in projects if project in versions}
    return fitting


def _unwanted(error: ClashError, projects: list[str]) -> set[str]:
    """Of the distributions that clash those that `projects` bring."""
    names = {name for clash in error.clashes for name in (clash.first, clash.second)} - {*projects}
    return {name for name in names if _bringing(error, {name}) & {*projects}}


def _bringing(error: ClashError, names: set[str]) -> set[str]:
    return {line.project for name in names for line in error.origins.get(name, ())}


def _find_conflicts(inputs: LockInputs, error: UnsatisfiableError, resolve: Resolver) -> list[Conflict]:
    """Frees one project after the other from the user's versions, until the rest can be had."""
    conflicts: dict[str, Conflict] = {}
    versions: dict[str, str] = {}
    # Each project at most twice: freed of its versions, then left out.
    for _ in range(2 * _MOST_CONFLICTS):
        project = _culprit(inputs, error.reason)
        if project is None:
            break
        lines = _lines_for(inputs, project)
        meets = _meets(inputs, error.reason, lines)
        conflicts.setdefault(project, Conflict(lines, meets))
        inputs = _freed(inputs, project)
        try:
            versions = resolve(inputs)
            break
        except UnsatisfiableError as again:
            error = again
    released = {project: version for project, version in versions.items() if not Version(version).is_prerelease}
    found = [replace(conflict, fitting=released.get(project)) for project, conflict in conflicts.items()]
    return [conflict for conflict in found if not conflict.is_innocent] or found


def _lines_for(inputs: LockInputs, project: str) -> tuple[InputLine, ...]:
    """The user's lines for a project whose markers hold for the target; all of them if none does."""
    target = (inputs.request.python, inputs.request.architecture)
    lines = [line for line in _users_lines(inputs) if line.project == project]
    return tuple(line for line in lines if applies(Requirement(line.text), *target)) or tuple(lines)


def _users_lines(inputs: LockInputs) -> list[InputLine]:
    users = inputs.request.requirements
    places = {wish.where for wish in (*users.requirements, *users.constraints)} if users else set()
    return [line for line in (*inputs.requirements, *inputs.constraints) if line.where in places]


def _culprit(inputs: LockInputs, reason: str) -> str | None:
    """The project of the user's that the resolver's reasoning ends with; TensorFlow is not one."""
    involved = {line.project for line in involved_lines(inputs, reason)}
    projects = {line.project for line in _users_lines(inputs)} & involved - {*TENSORFLOW_PROJECTS}
    required = [canonicalize_name(name) for name in re.findall(r"you require ([\w.-]*\w)", reason)]
    mentioned = [canonicalize_name(name) for name in re.findall(r"[\w.-]*\w", reason)]
    return next((str(name) for name in (*reversed(required), *reversed(mentioned)) if name in projects), None)


def _freed(inputs: LockInputs, project: str) -> LockInputs:
    """`inputs` where the user's lines ask for any version of `project`, or where they do already, without it."""
    opened = _opened(inputs, project)
    if opened != inputs:
        return opened
    users = _users_lines(inputs)
    kept = (line for line in inputs.requirements if not (line in users and line.project == project))
    return replace(inputs, requirements=tuple(kept))


def _opened(inputs: LockInputs, project: str) -> LockInputs:
    """`inputs` where the user's lines ask for any version of `project`."""
    users = {line for line in _users_lines(inputs) if line.project == project}
    return replace(
        inputs,
        requirements=tuple(_bare(line) if line in users else line for line in inputs.requirements),
        constraints=tuple(line for line in inputs.constraints if line not in users),
    )


def _bare(line: InputLine) -> InputLine:
    requirement = Requirement(line.text)
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    marker = f"; {requirement.marker}" if requirement.marker else ""
    return replace(line, text=f"{requirement.name}{extras}{marker}")


def _meets(inputs: LockInputs, reason: str, lines: tuple[InputLine, ...]) -> str:
    users = _users_lines(inputs)
    facts = _facts(reason, inputs.request)
    # The resolver writes the same specifiers in another order.
    named = {_requirement(word.rstrip(",.")) for word in reason.split()}
    for other in (*inputs.requirements, *inputs.constraints):
        is_named = _requirement(other.text.partition(";")[0]) in named
        if other in lines or not is_named or other.project in TENSORFLOW_PROJECTS:
            continue
        if other.symptom:
            facts.append(f"{other.where.removesuffix(' it')} {other.text} (a known break without it: {other.symptom})")
        elif other in users:
            facts.append(f"{other.where} asks for {other.text}")
        else:
            facts.append(f"{other.text} is {other.where}")
    return "; ".join(facts) or "the lines exclude each other"


def _requirement(text: str) -> tuple[str, SpecifierSet] | None:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    return canonicalize_name(requirement.name), requirement.specifier


def _facts(reason: str, request: LockRequest) -> list[str]:
    """The premises in the resolver's reasoning, less what was asked for; conclusions follow from them."""
    facts = []
    for sentence in re.split(r"\.? (?:And because|Because) ", without_numbers(reason).removeprefix("Because ")):
        if sentence.startswith("we know from "):
            continue
        premise = re.split(r",? we can conclude|, your requirements", sentence, maxsplit=1)[0].rstrip(".")
        fact = re.split(r"(?:^| and )you require ", premise, maxsplit=1)[0]
        fact = re.sub(r"(\S+==\S+) depends on (\S+)", r"the metadata of \1 require \2", fact)
        for project in TENSORFLOW_PROJECTS:
            fact = fact.removesuffix(f" and {project}=={request.release}")
        fact = fact.replace("no usable wheels", f"no wheel for CPython {request.python} on {request.platform}")
        facts.append(fact.replace("was not found in the package registry", "is not on the package index"))
    # Which versions there are goes with nearly every fact, and is one by itself where there is no other.
    brief = [re.sub(r"(?:^| and )only (?:the following versions of )?.*", "", fact) for fact in facts]
    return [fact for fact in brief if fact] or [fact for fact in facts if fact]


def _other_pythons(inputs: LockInputs, tables: Tables, resolve: Resolver) -> list[str]:
    for python in reversed(inputs.other_pythons):
        if _can_be_had(replace(inputs.request, python=python), tables, resolve):
            return [f"With tensorflow_python {python} the whole file can be installed."]
    return []


def _other_releases(inputs: LockInputs, tables: Tables, resolve: Resolver) -> list[str]:
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
    own = [line for line in _users_lines(inputs) if line.project not in TENSORFLOW_PROJECTS]
    try:
        resolve(replace(inputs, requirements=tuple(own), constraints=(), without=()))
    except UnsatisfiableError:
        return ["No other TensorFlow release helps: the lines have no solution without TensorFlow either."]
    tried = []
    for version in _nearest_releases(tables, request)[:_MOST_RELEASES]:
        if _can_be_had(replace(request, release=version, requirements=freed), tables, resolve):
            return [f"The nearest TensorFlow release that fits the rest of the file is {version}."]
        tried.append(version)
    return [f"No TensorFlow release that was tried fits the rest of the file ({', '.join(tried)})."] if tried else []


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


def _can_be_had(request: LockRequest, tables: Tables, resolve: Resolver) -> bool:
    try:
        inputs = lock_inputs(request, tables)
    except LockError:
        # No such target, for example without wheels of CUDA.
        return False
    try:
        resolve(inputs)
    except UnsatisfiableError:
        return False
    return True
