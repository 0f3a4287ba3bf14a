"""Make a lock: what the tables and a user ask for, resolved by uv for one Python, platform and flavour."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import sys
import tempfile
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from ..errors import LockError
from ..io.commands import Completed, run
from ..io.uv import uv_environment
from ..records.lockfile import Constraint, Distribution, Lock, lock_path, read_lock
from ..requirements.parse import (
    TENSORFLOW_PROJECTS,
    TensorflowRequirement,
    UserRequirement,
    UserRequirements,
    tensorflow_requirement,
)
from ..tables.load import Tables
from ..tables.releases import find_release
from ..tables.rows import CudaWheels, Release
from .clashes import Clash, find_clashes, nearest_requirers
from .wheel_files import FileLister

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PLATFORMS = {"x86_64": "linux_x86_64", "aarch64": "linux_aarch64"}
# cuda brings CUDA and cuDNN, cudnn brings cuDNN alone, beside a CUDA of the node.
FLAVOURS = ("cpu", "cuda", "cudnn")

# The oldest glibc that wheels may want: that of RHEL 8 and Debian 10. TensorFlow's own want 2.27 at most.
_GLIBC_MINOR = 28
# Bump when the same inputs are to be resolved differently, so that every lock is made anew.
_FORMAT = 1
# What a source distribution is built with, unless it says otherwise.
_BUILD_REQUIREMENTS = ("setuptools", "wheel")


class UnsatisfiableError(LockError):
    """No set of versions is everything that was asked for; `reason` is the resolver's, of `inputs`."""

    def __init__(self, message: str, *, inputs: LockInputs | None = None, reason: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.inputs = inputs
        self.reason = reason


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


@dataclass(frozen=True)
class LockRequest:
    """One lock: `python` is a minor (`3.10`), `platform` one of PLATFORMS, `flavour` one of FLAVOURS."""

    release: str
    python: str
    platform: str
    flavour: str
    requirements: UserRequirements | None = None

    @property
    def architecture(self) -> str:
        return next(name for name, platform in PLATFORMS.items() if platform == self.platform)

    def path_in(self, directory: str) -> str:
        """Where its lock is under a directory of locks."""
        return lock_path(
            directory, release=self.release, python=self.python, platform=self.platform, flavour=self.flavour
        )

    def __str__(self) -> str:
        return f"TensorFlow {self.release} for CPython {self.python}, {self.platform}, {self.flavour}"


@dataclass(frozen=True)
class InputLine:
    """One line that goes into a resolution; `where` is for people: a file and line, or who asks for it."""

    text: str
    where: str
    symptom: str = ""

    @property
    def project(self) -> str:
        return str(canonicalize_name(Requirement(self.text).name))


@dataclass(frozen=True)
class LockInputs:
    """Everything that goes into one resolution, apart from the state of the index."""

    request: LockRequest
    requirements: tuple[InputLine, ...]
    constraints: tuple[InputLine, ...]
    notes: tuple[str, ...] = ()
    other_pythons: tuple[str, ...] = ()
    # What the node has itself: cuDNN's wheel requires it, and it is left out.
    without: tuple[str, ...] = ()
    # Projects that no wheel exists of.
    from_source: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        request = self.request
        identity = {
            "format": _FORMAT,
            "release": request.release,
            "python": request.python,
            "platform": request.platform,
            "glibc": _GLIBC_MINOR,
            "flavour": request.flavour,
            "requirements": sorted({line.text for line in self.requirements}),
            "constraints": sorted({line.text for line in self.constraints}),
            **({"without": self.without} if self.without else {}),
            **({"from_source": sorted(self.from_source)} if self.from_source else {}),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class LockOutcome:
    """A lock as it should be, and as it was."""

    path: str
    lock: Lock
    previous: Lock | None
    notes: tuple[str, ...]

    @property
    def state(self) -> str:
        if self.previous is None:
            return "created"
        return "unchanged" if self.previous == self.lock else "updated"

    @property
    def changes(self) -> dict[str, list[str]]:
        before = self.previous.packages if self.previous else {}
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
        what = ": " + (", ".join(changes) or "the same versions") if self.state == "updated" else ""
        return f"{self.state}  {self.path}{what}"


@dataclass(frozen=True)
class LockRun:
    outcomes: tuple[LockOutcome, ...]
    skipped: tuple[tuple[LockRequest, UnsatisfiableError], ...]


Runner = Callable[[list[str], Mapping[str, str]], Completed]


def run_command(argv: list[str], environment: Mapping[str, str]) -> Completed:
    return run(argv, env=environment, apart=True)


def choose_release(tables: Tables, requirements: UserRequirements, pythons: Sequence[str]) -> str:
    """The newest release that the user's TensorFlow line allows, on one of `pythons` if there are any."""
    minors = {release.version: {*chain(*release.pythons.values())} for release in tables.releases}
    asked = {}
    for minor in pythons or sorted({*chain(*minors.values())}, key=Version):
        wish = tensorflow_requirement(requirements, minor)
        if wish is not None:
            asked[minor] = wish
    if not asked:
        raise LockError(
            f"{requirements.path} names no TensorFlow, and no release was asked for. "
            "Set tensorflow_version, or add a line such as tensorflow==2.8.0."
        )
    for release in reversed(tables.releases):
        for minor, wish in asked.items():
            fits = minor in minors[release.version] and wish.project in release.packages
            if fits and wish.specifier.contains(release.version):
                return release.version
    first = next(iter(asked.values()))
    for specifier in first.specifier:
        if specifier.operator == "==" and "*" not in specifier.version:
            find_release(tables, specifier.version, where=f" ({first.where})")
    raise LockError(
        f"{first.where} asks for {first.project}{first.specifier}, which no release fits that has a wheel "
        f"for Python {' or '.join(asked)}. Known are {tables.releases[0].version} to "
        f"{tables.releases[-1].version}."
    )


def lock_requests(
    tables: Tables,
    *,
    release: str,
    requirements: UserRequirements | None,
    pythons: Sequence[str],
    architectures: Sequence[str],
    flavours: Sequence[str],
) -> list[LockRequest]:
    """One request for each Python, architecture and flavour; with none named, for all that the release has."""
    requests = []
    for architecture in architectures:
        row = _release(tables, release)
        has_cuda = _cuda_wheels(tables, row.version, architecture) is not None
        minors = row.pythons.get(architecture, ())
        if not minors:
            raise LockError(
                f"TensorFlow {row.version} has no wheel on {architecture}. Set tensorflow_lock_architectures to others."
            )
        for minor in pythons or minors:
            asked = None if requirements is None else tensorflow_requirement(requirements, minor, architecture)
            without_cuda = asked is not None and row.packages.get(asked.project) == "cpu"
            for flavour in flavours or (("cpu", "cuda") if has_cuda and not without_cuda else ("cpu",)):
                requests.append(LockRequest(row.version, minor, PLATFORMS[architecture], flavour, requirements))
    return requests


def directory_beside(requirements_path: str) -> str:
    """Where the locks of a requirements file are: beside it, so that they are committed with it."""
    return os.path.splitext(requirements_path)[0] + ".locks"


def lock_inputs(request: LockRequest, tables: Tables) -> LockInputs:
    """What goes into the lock of `request`; LockError when the release has no such target."""
    release = _release(tables, request.release)
    _check_python(request, release)
    notes: list[str] = []
    users = request.requirements
    requirements: list[InputLine] = []
    constraints: list[InputLine] = []
    asked = None if users is None else tensorflow_requirement(users, request.python, request.architecture)
    if users is not None:
        requirements += [_user_line(wish, notes) for wish in users.requirements]
        constraints += [InputLine(str(limit.requirement), limit.where) for limit in users.constraints]
        notes += users.notes
    project = _project(request, release, asked)
    pin = InputLine(f"{project}=={release.version}", "the release asked for")
    if asked is None:
        requirements.append(pin)
    elif asked.specifier.contains(release.version, prereleases=True):
        # A range such as ~=2.8.0 stays as it is in the lock's header; the release decides what is taken.
        constraints.append(pin)
    else:
        raise UnsatisfiableError(
            f"{asked.where} asks for {asked.project}{asked.specifier}, but the release asked for is "
            f"{release.version}. Change that line, or set tensorflow_version to a release that it allows.",
        )
    for row in tables.constraints_for(release.version, request.python):
        line = InputLine(row.requirement, f"TensorFlow {release.version} needs it", row.symptom)
        (requirements if row.kind == "add" else constraints).append(line)
    without: list[str] = []
    if request.flavour != "cpu":
        wheels = _cuda_wheels(tables, release.version, request.architecture)
        if wheels is None:
            raise LockError(
                f"There are no CUDA wheels for TensorFlow {release.version} on {request.architecture}. "
                f"Leave {request.flavour!r} out of tensorflow_lock_flavours."
            )
        if request.flavour == "cuda":
            what, brought = f"CUDA {wheels.cuda}", wheels.requirements
        else:
            what, brought = f"cuDNN {wheels.cudnn}", tuple(filter(_is_cudnn, wheels.cudnn_requirements))
            without = [Requirement(text).name for text in wheels.cudnn_requirements if not _is_cudnn(text)]
        requirements += [InputLine(text, f"{what} for TensorFlow {release.version}") for text in brought]
    others = tuple(minor for minor in release.pythons.get(request.architecture, ()) if minor != request.python)
    return LockInputs(
        request,
        tuple(requirements),
        tuple(constraints),
        tuple(notes),
        others,
        without=tuple(without),
        from_source=tables.source_distributions_for(release.version, request.python),
    )


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
) -> Lock:
    """The lock for `inputs`.

    `previous` stays while the same goes in, unless `upgrade` asks the index again. Where something else goes
    in, its versions stay wherever they still fit. `uv` gives the path of uv, and is called only when needed.
    With `list_files` distributions that install one path are refused.
    """
    if previous is not None and not upgrade and previous.inputs_sha256 == inputs.sha256:
        return previous
    compiler = _Compiler(inputs.request, uv(), cutoff, index_url, runner, list_files)
    distributions = compiler.run(inputs, previous.packages if previous is not None and not upgrade else {})
    built_with: list[Distribution] = []
    if any(distribution.from_source for distribution in distributions):
        lines = tuple(InputLine(name, "what source distributions are built with") for name in _BUILD_REQUIREMENTS)
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
            Constraint(line.text, line.symptom)
            for line in sorted((*inputs.requirements, *inputs.constraints), key=lambda line: line.text)
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


def resolve_versions(
    inputs: LockInputs,
    *,
    uv: str,
    cutoff: str,
    index_url: str | None = None,
    runner: Runner = run_command,
    list_files: FileLister | None = None,
) -> dict[str, str]:
    """Project to version, as a lock made of `inputs` from nothing would have them."""
    compiler = _Compiler(inputs.request, uv, cutoff, index_url, runner, list_files)
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
) -> LockRun:
    """Every lock of `requests` as it should be below `directory`; nothing is written.

    With `skip_unsatisfiable` a target that cannot be had is left out, unless none can.
    """
    outcomes = []
    skipped = []
    for request in requests:
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
            )
        except UnsatisfiableError as error:
            if not skip_unsatisfiable:
                raise
            skipped.append((request, error))
        else:
            outcomes.append(LockOutcome(path, lock, previous, inputs.notes))
    if not outcomes and skipped:
        raise skipped[-1][1]
    return LockRun(tuple(outcomes), tuple(skipped))


def _read_previous(path: str, *, upgrade: bool) -> Lock | None:
    try:
        return read_lock(path)
    except LockError:
        # An upgrade makes everything anew, a damaged lock included.
        if upgrade:
            return None
        raise


def _release(tables: Tables, version: str) -> Release:
    release = tables.release(version)
    if release is None:
        which = f"The tables know no TensorFlow release {version}"
        if version in ("newest", "current"):
            which = f"tensorflow_version is {version}, which is another release on each node, and a lock is for one"
        raise LockError(
            f"{which}. Set tensorflow_version to one of {tables.releases[0].version} to {tables.releases[-1].version}, "
            "or leave it out where tensorflow_requirements names the release."
        )
    return release


def _check_python(request: LockRequest, release: Release) -> None:
    minors = release.pythons.get(request.architecture, ())
    if request.python not in minors:
        raise LockError(
            f"TensorFlow {release.version} has no wheel for CPython {request.python} on "
            f"{request.architecture}; it has for {', '.join(minors) or 'none there'}. "
            "Set tensorflow_lock_pythons to some of these."
        )


def _cuda_wheels(tables: Tables, version: str, architecture: str) -> CudaWheels | None:
    wheels = tables.cuda_wheels_for(version)
    return wheels if wheels is not None and wheels.architecture == architecture else None


def _is_cudnn(requirement: str) -> bool:
    return requirement.startswith("nvidia-cudnn-")


def _project(request: LockRequest, release: Release, asked: TensorflowRequirement | None) -> str:
    if asked is None:
        in_flavour = "tensorflow" if "tensorflow" in release.packages else release.package
        return in_flavour if request.flavour == "cpu" else release.package
    built_for = release.packages.get(asked.project)
    if built_for is None:
        raise LockError(
            f"{asked.where} asks for {asked.project}, which has no release {release.version}. "
            f"Write {release.package} there."
        )
    if request.flavour != "cpu" and built_for != "gpu":
        raise LockError(
            f"{asked.where} asks for {asked.project}, whose release {release.version} is built without CUDA. "
            f"Write {release.package} there, or leave {request.flavour!r} out of tensorflow_lock_flavours."
        )
    return asked.project


def _user_line(wish: UserRequirement, notes: list[str]) -> InputLine:
    requirement = wish.requirement
    if canonicalize_name(requirement.name) in TENSORFLOW_PROJECTS and "and-cuda" in requirement.extras:
        # The extra of several releases cannot be resolved; the flavour says whether its wheels come.
        requirement = copy.copy(requirement)
        requirement.extras = requirement.extras - {"and-cuda"}
        notes.append(f"{wish.where}: [and-cuda] is not taken over, the flavour says which CUDA wheels come.")
    return InputLine(str(requirement), wish.where)


@dataclass(frozen=True)
class _Compiler:
    """uv's resolver for one target."""

    request: LockRequest
    uv: str
    cutoff: str
    index_url: str | None
    runner: Runner
    list_files: FileLister | None

    def run(self, inputs: LockInputs, preferences: Mapping[str, str]) -> list[Distribution]:
        """What `inputs` come to, sorted; `preferences` are versions that stay where they fit."""
        packages = self._packages(inputs, preferences)
        tags = {tag: rank for rank, tag in enumerate(_target_tags(self.request.python, self.request.architecture))}
        distributions = [_distribution(package, tags, inputs.from_source) for package in packages]
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

    def _packages(self, inputs: LockInputs, preferences: Mapping[str, str]) -> list[dict[str, Any]]:
        with tempfile.TemporaryDirectory(prefix="tensorflow-lock-") as directory:
            output = os.path.join(directory, "pylock.toml")
            if preferences:
                with open(output, "w", encoding="utf-8") as stream:
                    stream.write(_pylock(preferences))
            self._compile(inputs, directory, ["--format", "pylock.toml", "--output-file", output])
            with open(output, "rb") as stream:
                return list(tomllib.load(stream)["packages"])

    def _compile(self, inputs: LockInputs, directory: str, options: list[str]) -> str:
        """What uv prints. Raises UnsatisfiableError, or LockError where the index is at fault."""
        wishes = _write_lines(os.path.join(directory, "requirements.in"), inputs.requirements)
        limits = _write_lines(os.path.join(directory, "constraints.txt"), inputs.constraints)
        argv = [self.uv, "pip", "compile", "--quiet", "--no-header", *options, "--only-binary", ":all:"]
        argv += [option for project in inputs.from_source for option in ("--no-binary", project)]
        # Any Python does for resolving; without this uv looks for one of the target's version.
        argv += ["--python", sys.executable, "--python-version", self.request.python]
        argv += ["--python-platform", f"{self.request.architecture}-manylinux_2_{_GLIBC_MINOR}"]
        argv += ["--exclude-newer", self.cutoff]
        if inputs.without:
            # Of cuDNN alone: what else requires these still brings them.
            argv += ["--config-file", _write_metadata(os.path.join(directory, "uv.toml"), inputs.requirements)]
        argv += ["--constraint", limits, wishes]
        done = self.runner(argv, uv_environment(index_url=self.index_url))
        if done.code != 0:
            raise _resolution_error(inputs, done, argv)
        return done.output

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
            f"{inputs.request} cannot be had with {message}.{remedy}", inputs=inputs, clashes=clashes, origins=origins
        )


def _shown(project: str, line: InputLine) -> str:
    """Where it comes from: the line's place, and what it asks for where that is something else."""
    return line.where if line.project == project else f"required by {line.text}, {line.where}"


def _write_lines(path: str, lines: Iterable[InputLine]) -> str:
    with open(path, "w", encoding="utf-8") as stream:
        stream.writelines(f"{line.text}\n" for line in lines)
    return path


def _write_metadata(path: str, lines: Iterable[InputLine]) -> str:
    """A configuration of uv in which cuDNN's wheel requires nothing."""
    rows = ", ".join(f'{{name = "{line.project}", requires-dist = []}}' for line in lines if _is_cudnn(line.text))
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(f"dependency-metadata = [{rows}]\n")
    return path


def _pylock(versions: Mapping[str, str]) -> str:
    """As much of an older result as uv needs to prefer its versions."""
    packages = "".join(f'[[packages]]\nname = "{name}"\nversion = "{version}"\n' for name, version in versions.items())
    return f'lock-version = "1.0"\ncreated-by = "playbooks/lock.yml"\n{packages}'


def _target_tags(python: str, architecture: str) -> list[Tag]:
    """The wheel tags that the target takes, best first."""
    version = [int(part) for part in python.split(".")]
    legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    oldest = 5 if architecture == "x86_64" else 17
    platforms = []
    for minor in range(_GLIBC_MINOR, oldest - 1, -1):
        platforms.append(f"manylinux_2_{minor}_{architecture}")
        if minor in legacy:
            platforms.append(f"{legacy[minor]}_{architecture}")
    platforms.append(f"linux_{architecture}")
    interpreter = f"cp{version[0]}{version[1]}"
    abi = interpreter + ("m" if version < [3, 8] else "")
    return [
        *cpython_tags(python_version=version, abis=[abi], platforms=platforms),
        *compatible_tags(python_version=version, interpreter=interpreter, platforms=platforms),
    ]


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
    explanation = re.search(r"(Because .*?)(?:\n\s*\n|\Z)", done.errors, re.DOTALL)
    if explanation is None:
        lines = re.findall(r"(?:error|cause): (.+)", done.errors)
        summary = "; ".join(dict.fromkeys([*lines[:1], *lines[-1:]])) or f"exit status {done.code}"
        return LockError(
            f"{inputs.request} could not be resolved: {summary}. "
            "Check the network, and tensorflow_index_url if you set it.",
            **details,
        )
    reason = " ".join(explanation.group(1).split())
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
        f"{inputs.request} cannot be had{with_lines}: {_essence(reason)}. {remedy}.",
        inputs=inputs,
        reason=reason,
        **details,
    )


def involved_lines(inputs: LockInputs, reason: str) -> list[InputLine]:
    """The lines whose projects the resolver mentions."""
    words = re.findall(r"[a-z0-9]+(?:[-._][a-z0-9]+)*", reason.lower())
    mentioned = {canonicalize_name(word) for word in words}
    return [line for line in (*inputs.requirements, *inputs.constraints) if line.project in mentioned]


def depends_on_python(reason: str) -> bool:
    """A conflict of two requirements is one on every Python; wheels are for some."""
    return re.search(r"\bwheels?\b|\bPython\b", reason) is not None


def _essence(reason: str) -> str:
    """The first fact of uv's chain of reasoning; the rest follows from it and from what was asked for."""
    first = re.split(r", we can conclude|\. And because", reason, maxsplit=1)[0]
    fact = first.removeprefix("Because ")
    return fact if fact.startswith("you require ") else fact.split(" and you require ")[0]
