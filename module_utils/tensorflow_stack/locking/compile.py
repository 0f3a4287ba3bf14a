"""uv's resolver for one target: its command line, its result as distributions, its errors as messages."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from ..errors import LockError
from ..io.commands import Completed, run
from ..io.uv import uv_environment
from ..records.lockfile import Distribution
from ..requirements.parse import TENSORFLOW_PROJECTS
from .clashes import Clash, find_clashes, nearest_requirers
from .companions import Bound, bound_against, is_companion
from .inputs import GLIBC_MINOR, InputLine, LockInputs, LockRequest, UnsatisfiableError, is_cudnn
from .offers import full_version, target_tags
from .sources import SourceRecord
from .wheel_files import FileLister, FileReader

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Runner = Callable[[list[str], Mapping[str, str]], Completed]
# By project its wheels, best first, each with `url` and `hashes`.
Wheels = Mapping[str, Sequence[Mapping[str, Any]]]
# Takes the wheels and versions of a resolution, and what finds the wheels for newer systems of some projects; raises
# UnsatisfiableError against one.
WheelChecker = Callable[[Wheels, Mapping[str, str], Callable[[Sequence[str]], Wheels]], None]
# The newest glibc that uv has a name for.
# fact: its --python-platform, 2026-11-26
_NEWEST_GLIBC_MINOR = 40
# Paragraphs are steps of uv's reasoning, or end a list; after it come hints.
_EXPLANATION = re.compile(
    r"(?:No solution found [^\n]*\n\s*cause: |(?=Because ))(.*?)(?:\n\s*\n\s*hint:|\Z)", re.DOTALL
)
_OF_THE_NETWORK = re.compile(
    r"\b(fetch|download|request|connect|dns|tls|certificate|timeout|timed out|http|https)\b", re.IGNORECASE
)
# Versions of one distribution that are tried until one allows the release.
_MOST_BOUNDS = 16


class ClashError(UnsatisfiableError):
    """Versions fit and files do not: distributions of one lock install the same paths.

    `origins` are the lines that bring each of these distributions.
    """

    def __init__(
        self,
        message: str,
        *,
        inputs: LockInputs,
        clashes: Sequence[Clash],
        origins: Mapping[str, tuple[InputLine, ...]],
        **details: Any,
    ) -> None:
        super().__init__(message, inputs=inputs, **details)
        self.clashes = clashes
        self.origins = origins


def run_command(argv: list[str], environment: Mapping[str, str]) -> Completed:
    return run(argv, env=environment, apart=True)


@dataclass(frozen=True)
class Compiler:
    """uv's resolver for one target."""

    request: LockRequest
    uv: str
    cutoff: str
    index_url: str | None
    runner: Runner
    list_files: FileLister | None
    check_wheels: WheelChecker | None = None
    reader: FileReader | None = None
    # What was read of source distributions that the user lets be built.
    sources: dict[tuple[str, str], SourceRecord] = field(default_factory=dict)

    def run(self, inputs: LockInputs, preferences: Mapping[str, str]) -> list[Distribution]:
        """What `inputs` come to, sorted; `preferences` are versions that stay where they fit."""
        packages = self._bounded_packages(inputs, preferences)
        tags = {tag: rank for rank, tag in enumerate(target_tags(self.request.python, self.request.architecture))}
        distributions = [_distribution(package, tags, inputs.from_source) for package in packages]
        if self.check_wheels is not None:
            offered = {found.name: _fitting_wheels(p, tags) for found, p in zip(distributions, packages, strict=True)}
            versions = {found.name: found.version for found in distributions}
            self.check_wheels(offered, versions, lambda names: self._newer_wheels(inputs, versions, names))
        if self.list_files is not None:
            wheels = {
                distribution.name: _fitting_wheels(package, tags)[0]
                for distribution, package in zip(distributions, packages, strict=True)
                if not distribution.from_source
            }
            files = self.list_files(wheels)
            clashes = find_clashes(files, wheels.keys() - files.keys())
            if clashes:
                raise self._refusal(inputs, clashes, {found.name: found.version for found in distributions})
        return sorted(distributions, key=lambda distribution: distribution.name)

    def _bounded_packages(self, inputs: LockInputs, preferences: Mapping[str, str]) -> list[dict[str, Any]]:
        """Without versions whose bound on TensorFlow, in an extra, excludes the release."""
        first: Bound | None = None
        for _ in range(_MOST_BOUNDS):
            try:
                packages = self._packages(inputs, preferences)
            except UnsatisfiableError:
                if first is None:
                    raise
                break
            bound = self._bound_against(packages)
            if bound is None:
                return packages
            first = first or bound
            if bound.is_older:
                break
            inputs = replace(inputs, limits=(*inputs.limits, self._limit_below(inputs, bound)))
        assert first is not None
        users = self._lines_requiring(inputs, first.name)
        required = f"you require {users[0].text}" if users else f"something requires {first.name}"
        reason = f"{first.reason}{required}, we can conclude that your requirements are unsatisfiable."
        where = f" ({users[0].where})" if users else ""
        raise UnsatisfiableError(
            f"{inputs.request} cannot be installed with {first.name} {first.version}{where}: its extra {first.extra!r} "
            f"requires {first.requirement}. Change or leave out what requires it.",
            inputs=inputs,
            reason=reason,
        )

    def _limit_below(self, inputs: LockInputs, bound: Bound) -> InputLine:
        """Excludes all versions that want a newer TensorFlow; asks for this project alone, which takes no time."""
        while True:
            why = f"{bound.name} {bound.version} requires {bound.requirement}"
            limit = InputLine(f"{bound.name}<{bound.version}", why)
            try:
                packages = self._packages(replace(inputs, requirements=(limit,), constraints=()), {}, ["--no-deps"])
            except UnsatisfiableError:
                return limit
            older = self._bound_of(packages[0])
            if older is None or older.is_older:
                return limit
            bound = older

    def _lines_requiring(self, inputs: LockInputs, name: str) -> list[InputLine]:
        """The lines that ask for a project, or for what requires it."""
        own = [line for line in inputs.requirements if line.project == name]
        if own:
            return own
        asked = {line.project for line in inputs.requirements}
        try:
            with tempfile.TemporaryDirectory(prefix="tensorflow-lock-") as directory:
                free = replace(inputs, limits=())
                annotated = self._compile(free, directory, ["--annotation-style", "line"])
        except LockError:
            return []
        wanting = nearest_requirers(name, asked, annotated)
        return [line for line in inputs.requirements if line.project in wanting]

    def _bound_against(self, packages: list[dict[str, Any]]) -> Bound | None:
        names = {str(canonicalize_name(package["name"])) for package in packages}
        # Without TensorFlow in it, a resolution asks what the rest alone would be.
        if names.isdisjoint(TENSORFLOW_PROJECTS):
            return None
        return next(filter(None, map(self._bound_of, packages)), None)

    def _bound_of(self, package: Mapping[str, Any]) -> Bound | None:
        name = str(canonicalize_name(package["name"]))
        if self.reader is None or not is_companion(name) or not package.get("wheels"):
            return None
        metadata = self.reader.metadata(package["wheels"][-1]) or ""
        return bound_against(name, package["version"], metadata, self.request.release)

    def _newer_wheels(self, inputs: LockInputs, versions: Mapping[str, str], names: Sequence[str]) -> Wheels:
        """Of these projects the wheels for systems newer than the lock's target, which a node may well be."""
        lines = tuple(InputLine(f"{name}=={versions[name]}", "found on the node") for name in names)
        asked = replace(inputs, requirements=lines, constraints=(), without=())
        packages = self._packages(asked, {}, ["--no-deps"], glibc_minor=_NEWEST_GLIBC_MINOR)
        return {str(canonicalize_name(package["name"])): package.get("wheels", ()) for package in packages}

    def _packages(
        self,
        inputs: LockInputs,
        preferences: Mapping[str, str],
        options: Sequence[str] = (),
        glibc_minor: int = GLIBC_MINOR,
    ) -> list[dict[str, Any]]:
        with tempfile.TemporaryDirectory(prefix="tensorflow-lock-") as directory:
            output = os.path.join(directory, "pylock.toml")
            if preferences:
                with open(output, "w", encoding="utf-8") as stream:
                    stream.write(_pylock(preferences))
            while True:
                self._compile(
                    inputs, directory, ["--format", "pylock.toml", "--output-file", output, *options], glibc_minor
                )
                with open(output, "rb") as stream:
                    packages = list(tomllib.load(stream)["packages"])
                # Of another version the resolver does not know yet what it requires.
                if not self._read_sources(inputs, packages):
                    return packages

    def _read_sources(self, inputs: LockInputs, packages: Sequence[Mapping[str, Any]]) -> bool:
        """Read those source distributions that the user allows and that nobody has read yet. Were there any?"""
        was_new = False
        for package in packages:
            key = (str(canonicalize_name(package["name"])), str(package["version"]))
            if key[0] in inputs.request.source_builds and key not in self.sources and self.reader is not None:
                self.sources[key] = self.reader.source(*key, package["sdist"])
                was_new = True
        return was_new

    def _compile(self, inputs: LockInputs, directory: str, options: list[str], glibc_minor: int = GLIBC_MINOR) -> str:
        """What uv prints. Raises UnsatisfiableError, or LockError where the index is at fault."""
        wishes = _write_lines(os.path.join(directory, "requirements.in"), inputs.requirements)
        limits = _write_lines(os.path.join(directory, "constraints.txt"), (*inputs.constraints, *inputs.limits))
        argv = [self.uv, "pip", "compile", "--quiet", "--no-header", *options, "--only-binary", ":all:"]
        argv += [option for project in inputs.from_source for option in ("--no-binary", project)]
        # Any Python does for resolving; without this uv looks for one of the target's version.
        argv += ["--python", sys.executable, "--python-version", full_version(self.request.python)]
        argv += ["--python-platform", f"{self.request.architecture}-manylinux_2_{glibc_minor}"]
        argv += ["--exclude-newer", self.cutoff]
        rows = self._metadata_rows(inputs)
        if rows:
            argv += ["--config-file", _write_metadata(os.path.join(directory, "uv.toml"), rows)]
        argv += ["--constraint", limits, wishes]
        done = self.runner(argv, uv_environment(index_url=self.index_url))
        if done.code != 0:
            raise _resolution_error(inputs, done, argv)
        return done.output

    def _metadata_rows(self, inputs: LockInputs) -> list[str]:
        """What uv is told that distributions require, instead of asking them."""
        rows = []
        if inputs.without:
            # Of cuDNN alone: what else requires these still brings them.
            own = [line for line in inputs.requirements if is_cudnn(line.text)]
            rows += [f'{{name = "{line.project}", requires-dist = []}}' for line in own]
        # uv would run the code of a source distribution to ask it.
        rows += [f'{{name = "{name}", requires-dist = []}}' for name in inputs.request.source_builds]
        return rows + [record.metadata_row for record in self.sources.values()]

    def _refusal(self, inputs: LockInputs, clashes: Sequence[Clash], versions: Mapping[str, str]) -> ClashError:
        with tempfile.TemporaryDirectory(prefix="tensorflow-lock-") as directory:
            annotated = self._compile(inputs, directory, ["--annotation-style", "line"])
        asked = {line.project for line in inputs.requirements}
        origins = {}
        for name in {name for clash in clashes for name in (clash.first, clash.second)}:
            wanting = nearest_requirers(name, asked, annotated)
            origins[name] = tuple(line for line in inputs.requirements if line.project in wanting)

        def described(name: str) -> str:
            lines = " and ".join(dict.fromkeys(_shown(name, line) for line in origins[name]))
            return f"{name} {versions[name]}" + (f" ({lines})" if lines else "")

        # Two libraries of one name say more than two headers.
        first, *others = sorted(clashes, key=lambda clash: not clash.shares_library)
        also = "; so do " + ", ".join(f"{clash.first} and {clash.second}" for clash in others[:3]) if others else ""
        also += f" and {len(others) - 3} more pairs" if len(others) > 3 else ""
        message = f"{described(first.first)} and {described(first.second)}: {first}{also}"
        remedy = "" if inputs.request.requirements else " Correct the tables."
        return ClashError(
            f"{inputs.request} cannot be installed with {message}.{remedy}",
            inputs=inputs,
            clashes=clashes,
            origins=origins,
        )


def _shown(project: str, line: InputLine) -> str:
    """Where it comes from: the line's place, and what it asks for where that is something else."""
    return line.where if line.project == project else f"required by {line.text}, {line.where}"


def _write_lines(path: str, lines: Iterable[InputLine]) -> str:
    with open(path, "w", encoding="utf-8") as stream:
        stream.writelines(f"{line.text}\n" for line in lines)
    return path


def _write_metadata(path: str, rows: Iterable[str]) -> str:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(f"dependency-metadata = [{', '.join(rows)}]\n")
    return path


def _pylock(versions: Mapping[str, str]) -> str:
    """As much of an older result as uv needs to prefer its versions."""
    packages = "".join(f'[[packages]]\nname = "{name}"\nversion = "{version}"\n' for name, version in versions.items())
    # fact: PEP 751, 2026-11-22
    return f'lock-version = "1.0"\ncreated-by = "playbooks/lock.yml"\n{packages}'


def _distribution(package: Mapping[str, Any], tags: Mapping[Tag, int], from_source: Sequence[str]) -> Distribution:
    name = str(canonicalize_name(package["name"]))
    is_source = name in from_source
    files = [package["sdist"]] if is_source else _fitting_wheels(package, tags)
    if not files:
        raise LockError(f"{name} {package['version']} has no wheel for this target.", package=dict(package))
    without = [found["url"] for found in files if "sha256" not in found["hashes"]]
    if without:
        raise LockError(
            f"The index gives no sha256 for {without[0]}, so it cannot be locked. "
            "Set tensorflow_index_url to an index that does."
        )
    return Distribution(
        name=name,
        version=str(Version(package["version"])),
        hashes=tuple(sorted(found["hashes"]["sha256"] for found in files)),
        # Not every index tells sizes.
        bytes=files[0].get("size", 0),
        from_source=is_source,
    )


def _fitting_wheels(package: Mapping[str, Any], tags: Mapping[Tag, int]) -> list[Mapping[str, Any]]:
    """The wheels that the target takes, best first."""
    fitting = []
    for wheel in package.get("wheels", ()):
        path = urllib.parse.unquote(urllib.parse.urlsplit(wheel["url"]).path)
        filename = wheel.get("name") or os.path.basename(path)
        _, _, build, wheel_tags = parse_wheel_filename(filename)
        ranks = [tags[tag] for tag in wheel_tags if tag in tags]
        if ranks:
            fitting.append((min(ranks), [-(build[0] if build else 0)], wheel))
    return [wheel for _, _, wheel in sorted(fitting, key=lambda candidate: candidate[:2])]


def _resolution_error(inputs: LockInputs, done: Completed, argv: list[str]) -> LockError:
    details = {"cmd": argv, "rc": done.code, "stderr": done.errors}
    explanation = _EXPLANATION.search(done.errors)
    if explanation is None:
        lines = re.findall(r"(?:error|cause): (.+)", done.errors)
        summary = "; ".join(dict.fromkeys([*lines[:1], *lines[-1:]])) or f"exit status {done.code}"
        is_network = not lines or _OF_THE_NETWORK.search(done.errors)
        advice = " Check the network, and tensorflow_index_url if you set it." if is_network else ""
        return LockError(f"{inputs.request} could not be resolved: {summary.rstrip('.')}.{advice}", **details)
    reason = " ".join(explanation.group(1).split())
    if not reason.startswith("Because "):
        # A single fact is no chain of reasons: "you require x<0, which does not allow any versions".
        reason = f"Because {reason}, we can conclude that your requirements are unsatisfiable."
    involved = [
        f"{line.text} ({line.where}{': ' + line.symptom if line.symptom else ''})"
        for line in involved_lines(inputs, reason)
    ]
    with_lines = f" with {' and '.join(involved)}" if involved else ""
    users = inputs.request.requirements
    remedy = f"Change one of these lines of {users.path}" if users else "Correct the tables or move the cutoff"
    if inputs.other_pythons and depends_on_python(reason):
        remedy += f", or set tensorflow_python to another one ({', '.join(inputs.other_pythons)})"
    return UnsatisfiableError(
        f"{inputs.request} cannot be installed{with_lines}: {_essence(reason)}. {remedy}.",
        inputs=inputs,
        reason=reason,
        **details,
    )


def involved_lines(inputs: LockInputs, reason: str) -> list[InputLine]:
    """The lines whose projects the resolver mentions."""
    words = re.findall(r"[a-z0-9]+(?:[-._][a-z0-9]+)*", reason.lower())
    mentioned = {canonicalize_name(word) for word in words}
    lines = (*inputs.requirements, *inputs.constraints, *inputs.limits)
    return [line for line in lines if line.project in mentioned]


def depends_on_python(reason: str) -> bool:
    """A conflict of two requirements is one on every Python; wheels are for some."""
    return re.search(r"\bwheels?\b|\bPython\b", reason) is not None


def _essence(reason: str) -> str:
    """The first fact of uv's chain of reasoning; the rest follows from it and from what was asked for."""
    first = re.split(r",? we can conclude|\. And because", without_numbers(reason), maxsplit=1)[0]
    fact = first.removeprefix("Because ")
    return fact if fact.startswith("you require ") else fact.split(" and you require ")[0]


def without_numbers(reason: str) -> str:
    """The reasoning without what only its author can read: numbers of its steps, and markers in braces."""
    return re.sub(r" \(\d+\)|\{[^}]*\}", "", reason)
