"""Which of a user's lines are at fault for one target, each with what it meets and the version that would fit.

Found by resolving parts of the file again, after asking the index which lines have a wheel for the target at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from ..requirements.parse import TENSORFLOW_PROJECTS, applies
from .compile import ClashError, involved_lines, without_numbers
from .inputs import InputLine, LockInputs, LockRequest, UnsatisfiableError
from .offers import Lack, Offer, Offers, without_local_version

# One resolution takes a second, or some with an empty cache.
_MOST_CONFLICTS = 16
_MOST_RESTORED = 6
_MOST_TRIES = 8
_SHOWN_FACTS = 2

# The versions that lock inputs resolve to.
Resolver = Callable[[LockInputs], dict[str, str]]


@dataclass(frozen=True)
class Lookup:
    """The package index: what inputs resolve to, with and without comparing files, and what it has of a project."""

    resolve: Resolver
    resolve_versions: Resolver
    offers: Offers


@dataclass(frozen=True)
class Conflict:
    """Lines of the user for one project, what they meet, and the version that is taken without them."""

    lines: tuple[InputLine, ...]
    meets: str
    fitting: str | None = None
    offer: Offer | None = None  # no other release of TensorFlow changes what the index has
    # Projects that have sources alone and would have to be built.
    sources: tuple[str, ...] = ()

    @property
    def project(self) -> str:
        return self.lines[0].project

    @property
    def is_resolved(self) -> bool:
        return bool(self.fitting or self.sources)

    @property
    def described(self) -> str:
        return f"{' and '.join(map(placed, self.lines))}: {self.meets}"

    def __str__(self) -> str:
        return f"{self.described}{self._advice}"

    @property
    def _advice(self) -> str:
        if self.fitting is None:
            is_said = self.sources or self.meets.startswith("no version of ")
            return "" if is_said else f"; no release of {self.project} fits"
        asked = SpecifierSet(",".join(str(Requirement(line.text).specifier) for line in self.lines))
        if asked.contains(self.fitting, prereleases=True) and self.offer is None:
            # Never the version that the line asks for: something else is at fault.
            return ""
        is_pinned = any(specifier.operator in ("==", "===") for specifier in asked)
        beside = "" if is_pinned or not str(asked) else f", which {asked} excludes"
        return f"; {self.project} {self.fitting} would fit{beside}"


@dataclass
class Blame:
    """The lines at fault for `inputs`: those that the index has nothing for, then those that exclude each other."""

    inputs: LockInputs
    index: Lookup
    conflicts: dict[str, Conflict] = field(default_factory=dict)

    def ask_index(self) -> None:
        """Find the lines that no wheel fits. Costs no resolution."""
        request = self.inputs.request
        for project in dict.fromkeys(line.project for line in users_lines(self.inputs)):
            lines = lines_for(self.inputs, project)
            if project in {*TENSORFLOW_PROJECTS, *self.inputs.from_source} or not lines:
                continue
            asked = Requirement(lines[0].text)
            asked.specifier = SpecifierSet(",".join(str(Requirement(line.text).specifier) for line in lines))
            offer = self.index.offers.of(asked, request.python, request.architecture, self.inputs.other_pythons)
            if offer.lack is None:
                continue
            sources = (project,) if offer.lack is Lack.WHEEL else ()
            self.conflicts[project] = Conflict(lines, _lacking(asked, offer, request), offer=offer, sources=sources)

    def first(self, reason: str) -> Conflict | None:
        """What the resolver's reasoning ends with."""
        project = _culprit(self.inputs, reason)
        return self._conflict(self.inputs, project, reason) if project else None

    def find(self, most: int) -> bool:
        """Free one project after the other from the user's versions until the rest has a solution.

        False if more than `most` of them are at fault.
        """
        inputs = self.inputs
        for project, conflict in self.conflicts.items():
            inputs = _freed_by(inputs, project, conflict.offer, self.index.offers)
        versions: dict[str, str] = {}
        freed: list[str] = []
        for _ in range(2 * _MOST_CONFLICTS):
            if len(self.conflicts) > most:
                return False
            try:
                versions = self.index.resolve_versions(inputs)
                break
            except UnsatisfiableError as error:
                culprit = _culprit(inputs, error.reason)
                if culprit is None:
                    break
                if culprit not in self.conflicts:
                    self.conflicts[culprit] = self._conflict(inputs, culprit, error.reason)
                    freed.append(culprit)
                inputs = _freed(inputs, culprit)
        versions = self._restore(inputs, freed[:_MOST_RESTORED], versions) if len(self.conflicts) > 1 else versions
        versions = self._without_clashes(inputs, versions)
        released = {project: version for project, version in versions.items() if not Version(version).is_prerelease}
        for project, conflict in self.conflicts.items():
            self.conflicts[project] = replace(conflict, fitting=released.get(project))
        return len(self.conflicts) <= most

    def _conflict(self, inputs: LockInputs, project: str, reason: str) -> Conflict:
        lines = lines_for(inputs, project)
        facts, sources = self._facts(inputs, reason, lines)
        return Conflict(lines, "; ".join(facts) or _without_facts(lines), sources=sources)

    def _facts(
        self, inputs: LockInputs, reason: str, lines: tuple[InputLine, ...]
    ) -> tuple[list[str], tuple[str, ...]]:
        request = inputs.request
        facts: list[str] = []
        sources: dict[str, str] = {}
        for part in (part for fact in meets(inputs, reason, lines) for part in fact.split(" and ")):
            found = _WITHOUT_WHEEL.match(part)
            lacking = _requirement(found[1]) if found else None
            if lacking is None:
                facts.append(part)
                continue
            asked = Requirement(f"{lacking[0]}{lacking[1]}")
            offer = self.index.offers.of(asked, request.python, request.architecture, inputs.other_pythons)
            facts.append(_lacking(asked, offer, request) if offer.lack else part)
            if offer.lack is Lack.WHEEL:
                sources.setdefault(lacking[0], facts[-1])
        # That it requires something comes before that this does not exist, and what is to be built is always said.
        facts = sorted(dict.fromkeys(facts), key=lambda fact: " wheel" in fact)
        others = [fact for fact in facts if fact not in sources.values()]
        shown = others[: _SHOWN_FACTS - bool(sources)]
        return [*shown, *list(sources.values())[: _SHOWN_FACTS - len(shown)]], tuple(sources)

    def _without_clashes(self, inputs: LockInputs, versions: dict[str, str]) -> dict[str, str]:
        """Versions of which no two install one path, which those that the resolver takes first may do."""
        if not versions or inputs.request.flavour == "cpu":
            return versions
        try:
            return self.index.resolve(inputs)
        except ClashError as error:
            return without_clash(error, inputs, [*self.conflicts], self.index.resolve)

    def _restore(self, inputs: LockInputs, freed: list[str], versions: dict[str, str]) -> dict[str, str]:
        """Take back the blame of each line with which there is a solution as well; the versions of the last one."""
        for project in freed:
            if len(self.conflicts) == 1:
                break
            restored = _restored(inputs, self.inputs, project)
            try:
                versions = self.index.resolve_versions(restored)
            except UnsatisfiableError:
                continue
            inputs = restored
            del self.conflicts[project]
        return versions


_WITHOUT_WHEEL = re.compile(r"(?:all versions of )?(\S+) (?:has|have) no (?:usable )?wheels?\b")


def _without_facts(lines: tuple[InputLine, ...]) -> str:
    return "the lines exclude each other" if len(lines) > 1 else "the line excludes every version"


def placed(line: InputLine) -> str:
    return f"{line.text} ({line.where})"


def _lacking(asked: Requirement, offer: Offer, request: LockRequest) -> str:
    name, text = asked.name, f"{asked.name}{asked.specifier}"
    version = offer.nearest if str(asked.specifier) else None
    exact = (
        f"{name} {version}" if version and len(list(asked.specifier)) == 1 and "==" in str(asked.specifier) else text
    )
    if offer.lack is Lack.PROJECT:
        return f"{name} is not on the package index"
    if offer.lack is Lack.VERSION:
        return f"there is no version {text} on the package index"
    if offer.lack is Lack.LOCAL:
        local = re.search(r"\+[\w.]+", str(asked.specifier))
        public = without_local_version(asked)
        return (
            f"{local[0] if local else 'it'} is a build on another index, such as PyTorch's own; {public} is the same "
            "release on this one"
        )
    if offer.lack is Lack.WHEEL:
        return f"{exact} has sources and no wheel"
    if offer.lack is Lack.PLATFORM:
        return f"{exact} has wheels for other systems and none for {request.platform}"
    pythons = f", only for {' and '.join(offer.pythons)}" if offer.pythons else ""
    return f"{exact} has no wheel for CPython {request.python}{pythons}"


def lines_for(inputs: LockInputs, project: str) -> tuple[InputLine, ...]:
    """The user's lines for a project whose markers hold for the target; none if one for another platform is meant."""
    target = (inputs.request.python, inputs.request.architecture)
    lines = [line for line in users_lines(inputs) if line.project == project]
    return tuple(line for line in lines if applies(Requirement(line.text), *target))


def _freed_by(inputs: LockInputs, project: str, offer: Offer | None, offers: Offers) -> LockInputs:
    """`inputs` without what the index lacks: with the same release, any, or none of `project`."""
    if offer is not None and offer.lack is Lack.LOCAL:
        lines = {line: _public(line) for line in users_lines(inputs) if line.project == project}
        return replace(
            inputs,
            requirements=tuple(lines.get(line, line) for line in inputs.requirements),
            constraints=tuple(lines.get(line, line) for line in inputs.constraints),
        )
    target = (inputs.request.python, inputs.request.architecture)
    opened_inputs = opened(inputs, project)
    has_wheel = offers.of(Requirement(project), *target).lack is None
    return opened_inputs if has_wheel and opened_inputs != inputs else _freed(opened_inputs, project)


def _public(line: InputLine) -> InputLine:
    public = without_local_version(Requirement(line.text))
    return line if public is None else replace(line, text=str(public))


def _restored(inputs: LockInputs, original: LockInputs, project: str) -> LockInputs:
    """`inputs` with the lines that `original` has for `project`."""

    def merged(now: tuple[InputLine, ...], before: tuple[InputLine, ...]) -> tuple[InputLine, ...]:
        users = {*users_lines(inputs), *users_lines(original)}
        others = [line for line in now if not (line in users and line.project == project)]
        return (*others, *(line for line in before if line in users and line.project == project))

    return replace(
        inputs,
        requirements=merged(inputs.requirements, original.requirements),
        constraints=merged(inputs.constraints, original.constraints),
    )


def users_lines(inputs: LockInputs) -> list[InputLine]:
    users = inputs.request.requirements
    places = {wish.where for wish in (*users.requirements, *users.constraints)} if users else set()
    return [line for line in (*inputs.requirements, *inputs.constraints) if line.where in places]


def _culprit(inputs: LockInputs, reason: str) -> str | None:
    """The project of the user's that the resolver's reasoning ends with; TensorFlow is not one."""
    involved = {line.project for line in involved_lines(inputs, reason)}
    projects = {line.project for line in users_lines(inputs)} & involved - {*TENSORFLOW_PROJECTS}
    required = [canonicalize_name(name) for name in re.findall(r"you require ([\w.-]*\w)", reason)]
    mentioned = [canonicalize_name(name) for name in re.findall(r"[\w.-]*\w", reason)]
    return next((str(name) for name in (*reversed(required), *reversed(mentioned)) if name in projects), None)


def _freed(inputs: LockInputs, project: str) -> LockInputs:
    """`inputs` where the user's lines ask for any version of `project`, or where they do already, without it."""
    is_open = opened(inputs, project)
    if is_open != inputs:
        return is_open
    users = users_lines(inputs)
    kept = (line for line in inputs.requirements if not (line in users and line.project == project))
    return replace(inputs, requirements=tuple(kept))


def opened(inputs: LockInputs, project: str) -> LockInputs:
    """`inputs` where the user's lines ask for any version of `project`."""
    users = {line for line in users_lines(inputs) if line.project == project}
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


def meets(inputs: LockInputs, reason: str, lines: tuple[InputLine, ...]) -> list[str]:
    users = users_lines(inputs)
    facts = facts_of(reason, inputs.request)
    # The resolver writes the same specifiers in another order.
    named = {_requirement(word.rstrip(",.")) for word in reason.split()}
    for other in (*inputs.requirements, *inputs.constraints, *inputs.limits):
        is_named = _requirement(other.text.partition(";")[0]) in named
        if other in lines or not is_named or other.project in TENSORFLOW_PROJECTS:
            continue
        if other.symptom and other.allows_none:
            facts.append(
                f"no version of {other.project} works with TensorFlow {inputs.request.release} ({other.symptom})"
            )
        elif other.symptom:
            facts.append(f"{other.where.removesuffix(' it')} {other.text} (a known break without it: {other.symptom})")
        elif other in users:
            facts.append(f"{other.where} asks for {other.text}")
        else:
            facts.append(f"{other.text} is {other.where}")
    return facts


def _requirement(text: str) -> tuple[str, SpecifierSet] | None:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    return canonicalize_name(requirement.name), requirement.specifier


def facts_of(reason: str, request: LockRequest) -> list[str]:
    """The premises in the resolver's reasoning, less what was asked for; conclusions follow from them."""
    facts = []
    for sentence in re.split(r"\.? (?:And because|Because) ", without_numbers(reason).removeprefix("Because ")):
        if sentence.startswith("we know from "):
            continue
        premise = re.split(r",? we can conclude|, your requirements", sentence, maxsplit=1)[0].rstrip(".")
        fact = re.split(r"(?:^| and )you require ", premise, maxsplit=1)[0]
        # A hole in a range makes it a list, of which the ends say enough.
        fact = re.sub(r"one of:((?: \S+)+)", _ends, fact)
        fact = re.sub(r"(\S+==\S+) depends on (\S+)", r"the metadata of \1 require \2", fact)
        for project in TENSORFLOW_PROJECTS:
            fact = fact.removesuffix(f" and {project}=={request.release}")
        fact = fact.replace("no usable wheels", f"no wheel for CPython {request.python} on {request.platform}")
        facts.append(fact.replace("was not found in the package registry", "is not on the package index"))
    # Which versions there are goes with nearly every fact, and is one by itself where there is no other.
    brief = [re.sub(r"(?:^| and )only (?:the following versions of )?.*", "", fact) for fact in facts]
    return [fact for fact in brief if fact] or [fact for fact in facts if fact]


def without_clash(error: ClashError, inputs: LockInputs, projects: list[str], resolve: Resolver) -> dict[str, str]:
    """Versions of `projects` with which no two distributions clash, found without one of each two; empty for none."""
    for project in projects:
        inputs = opened(inputs, project)
    unwanted = unwanted_of(error, projects)
    fitting: dict[str, str] = {}
    # What the resolver finds first need not be the newest: it would rather change these than NVIDIA's wheels.
    for _ in range(_MOST_TRIES):
        limits = {*(f"{name}<0" for name in unwanted), *(f"{name}>{version}" for name, version in fitting.items())}
        lines = tuple(InputLine(limit, "looked for") for limit in sorted(limits))
        try:
            versions = resolve(replace(inputs, constraints=(*inputs.constraints, *lines)))
        except ClashError as again:
            more = unwanted_of(again, projects)
            if more <= unwanted:
                break
            unwanted |= more
        except UnsatisfiableError:
            break
        else:
            fitting = {project: versions[project] for project in projects if project in versions}
    return fitting


def unwanted_of(error: ClashError, projects: list[str]) -> set[str]:
    """Of the distributions that clash those that `projects` bring."""
    names = {name for clash in error.clashes for name in (clash.first, clash.second)} - {*projects}
    return {name for name in names if bringing(error, {name}) & {*projects}}


def bringing(error: ClashError, names: set[str]) -> set[str]:
    return {line.project for name in names for line in error.origins.get(name, ())}


def _ends(found: re.Match[str]) -> str:
    """`x>=1,<3` for the list `x>=1,<2 x>2,<3`."""
    parts = found[1].split()
    first, last = parts[0].partition(",")[0], parts[-1].rpartition(",")[2]
    return f"{first},{last}" if len(parts) > 1 and last.startswith("<") else found[1].strip()
