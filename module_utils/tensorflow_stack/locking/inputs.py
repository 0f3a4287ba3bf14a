"""What goes into a lock: which locks are asked for, and the lines of each from the tables and from a user."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from ..errors import LockError
from ..records.lockfile import lock_path
from ..requirements.parse import (
    TENSORFLOW_PROJECTS,
    TensorflowRequirement,
    UserRequirement,
    UserRequirements,
    applies,
    named_tensorflow,
    tensorflow_requirement,
)
from ..tables.load import Tables
from ..tables.releases import find_release, renamed
from ..tables.rows import Companion, CudaWheels, Release
from .companions import overrules

PLATFORMS = {"x86_64": "linux_x86_64", "aarch64": "linux_aarch64"}
# The oldest glibc that wheels may want: that of RHEL 8 and Debian 10. TensorFlow's own want 2.27 at most.
# fact: what these distributions have, 2026-11-22
GLIBC_MINOR = 28
# Bump when the same inputs are to be resolved differently, so that every lock is made anew.
_FORMAT = 1


class UnsatisfiableError(LockError):
    """No set of versions is everything that was asked for; `reason` is the resolver's, of `inputs`."""

    def __init__(self, message: str, *, inputs: LockInputs | None = None, reason: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.inputs = inputs
        self.reason = reason


@dataclass(frozen=True)
class LockRequest:
    """One lock: `python` is a minor (`3.10`), `platform` is one of PLATFORMS.

    `flavour` is cpu, cuda (with CUDA and cuDNN) or cudnn (with cuDNN alone, for a CUDA of the node). gpu is for a CUDA
    and cuDNN of the node, if the release has its GPU build in a project of its own; otherwise cpu is that lock.
    """

    release: str
    python: str
    platform: str
    flavour: str
    requirements: UserRequirements | None = None
    # Projects that the user lets be built from source.
    source_builds: tuple[str, ...] = ()

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

    @property
    def allows_none(self) -> bool:
        """A table says `<0` of a project of which no version works."""
        return str(Requirement(self.text).specifier) == "<0"


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
    # Limits on projects that nobody named: they decide only if something requires these.
    limits: tuple[InputLine, ...] = ()

    @property
    def sha256(self) -> str:
        request = self.request
        identity = {
            "format": _FORMAT,
            "release": request.release,
            "python": request.python,
            "platform": request.platform,
            "glibc": GLIBC_MINOR,
            "flavour": request.flavour,
            "requirements": sorted({line.text for line in self.requirements}),
            "constraints": sorted({line.text for line in self.constraints}),
            **({"without": self.without} if self.without else {}),
            **({"from_source": sorted(self.from_source)} if self.from_source else {}),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def choose_release(tables: Tables, requirements: UserRequirements, pythons: Sequence[str]) -> str:
    """The newest release that the user's TensorFlow line allows, on one of `pythons` if there are any."""
    minors = {release.version: {*chain(*release.pythons.values())} for release in tables.releases}
    asked = {}
    for minor in pythons or sorted({*chain(*minors.values())}, key=Version):
        wish = tensorflow_requirement(requirements, minor)
        if wish is not None:
            asked[minor] = wish
    if not asked:
        # example
        raise LockError(
            f"{requirements.path} names no TensorFlow, and no release was set. "
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
    instead = renamed(tables, first.project, first.specifier)
    if instead is not None:
        raise LockError(f"{first.where} asks for {first.project}{first.specifier}. {instead}")
    raise LockError(
        f"{first.where} asks for {first.project}{first.specifier}, but no matching release has a wheel "
        f"for Python {' or '.join(asked)}. Known are {tables.releases[0].version} to "
        f"{tables.releases[-1].version}."
    )


def choice_note(requirements: UserRequirements, release: str) -> list[str]:
    """That the file leaves the release open, and which one was taken."""
    notes = []
    for wish in named_tensorflow(requirements):
        specifier = wish.requirement.specifier
        if any(one.operator in ("==", "===") and "*" not in one.version for one in specifier):
            return []
        text = f"{wish.requirement.name}{specifier}"
        minors = [one.version for one in specifier if one.operator == "~=" and one.version.count(".") == 1]
        # PEP 440: ~=2.8 is >=2.8,==2.*
        alone = f"; for the patches of {minors[0]} alone write ~={minors[0]}.0" if minors else ""
        notes.append(f"{wish.where}: {text} takes {release}, the newest release that the file allows{alone}.")
    return notes


def lock_requests(
    tables: Tables,
    *,
    release: str,
    requirements: UserRequirements | None,
    pythons: Sequence[str],
    architectures: Sequence[str],
    flavours: Sequence[str],
    source_builds: Sequence[str] = (),
) -> list[LockRequest]:
    """One request for each Python, architecture and flavour; with none named, for all that the release has."""
    requests = []
    for architecture in architectures:
        row = _release(tables, release)
        minors = row.pythons.get(architecture, ())
        if not minors:
            raise LockError(
                f"TensorFlow {row.version} has no wheel on {architecture}. Set tensorflow_lock_architectures to others."
            )
        for minor in pythons or minors:
            asked = None if requirements is None else tensorflow_requirement(requirements, minor, architecture)
            without_cuda = asked is not None and row.packages.get(asked.project) == "cpu"
            for flavour in flavours or _flavours(tables, row, architecture, without_cuda=without_cuda):
                request = LockRequest(row.version, minor, PLATFORMS[architecture], flavour, requirements)
                requests.append(replace(request, source_builds=source_builds_of(source_builds)))
    return requests


def source_builds_of(projects: Iterable[str]) -> tuple[str, ...]:
    """The projects of tensorflow_source_builds, each in the spelling of an index."""
    for project in projects:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", project):
            raise LockError(
                f"tensorflow_source_builds has {project!r}, which is not the name of a project. "
                "Write names alone, without versions, such as [promise]."
            )
    return tuple(sorted({str(canonicalize_name(project)) for project in projects}))


def _flavours(tables: Tables, release: Release, architecture: str, *, without_cuda: bool) -> Sequence[str]:
    has = {
        "gpu": release.has_project_for_gpu,
        "cuda": _cuda_wheels(tables, release.version, architecture) is not None,
    }
    return ["cpu", *(flavour for flavour in has if has[flavour] and not without_cuda)]


def directory_beside(requirements_path: str) -> str:
    """Where the locks of a requirements file are: beside it, so that they are committed with it."""
    return os.path.splitext(requirements_path)[0] + ".locks"


def lock_inputs(request: LockRequest, tables: Tables) -> LockInputs:
    """What goes into the lock of `request`; LockError when the release has no such target."""
    release = _release(tables, request.release)
    _check_python(request, release)
    if request.flavour == "gpu" and not release.has_project_for_gpu:
        raise LockError(
            f"TensorFlow {release.version} has one project for CPU and GPU. "
            "Set tensorflow_lock_flavours to cpu, which is the lock for a CUDA of the node, too."
        )
    notes: list[str] = []
    users = request.requirements
    requirements: list[InputLine] = []
    constraints: list[InputLine] = []
    asked = None if users is None else tensorflow_requirement(users, request.python, request.architecture)
    if users is not None:
        requirements += [_user_line(wish, notes) for wish in users.requirements]
        constraints += [InputLine(str(limit.requirement), limit.where) for limit in users.constraints]
        notes += users.notes
    project = _project(tables, request, release, asked)
    pin = InputLine(f"{project}=={release.version}", "the requested release")
    if asked is None:
        requirements.append(pin)
    elif asked.specifier.contains(release.version, prereleases=True):
        # A range such as ~=2.8.0 stays as it is in the lock's header; the release decides what is taken.
        constraints.append(pin)
    else:
        raise UnsatisfiableError(
            f"{asked.where} asks for {asked.project}{asked.specifier}, but the requested release is "
            f"{release.version}. Change that line, or set tensorflow_version to a release that it allows.",
        )
    for row in tables.constraints_for(release.version, request.python):
        line = InputLine(row.requirement, f"TensorFlow {release.version} needs it", row.symptom)
        (requirements if row.kind == "add" else constraints).append(line)
    limits = _companion_lines(tables, request, requirements, constraints, notes) if users is not None else ()
    without: list[str] = []
    if request.flavour in ("cuda", "cudnn"):
        wheels = _cuda_wheels(tables, release.version, request.architecture)
        if wheels is None:
            raise LockError(
                f"There are no CUDA wheels for TensorFlow {release.version} on {request.architecture}. "
                f"Leave {request.flavour!r} out of tensorflow_lock_flavours."
            )
        if request.flavour == "cuda":
            what, brought = f"CUDA {wheels.cuda}", wheels.requirements
        else:
            what, brought = f"cuDNN {wheels.cudnn}", tuple(filter(is_cudnn, wheels.cudnn_requirements))
            without = [Requirement(text).name for text in wheels.cudnn_requirements if not is_cudnn(text)]
        requirements += [InputLine(text, f"{what} for TensorFlow {release.version}") for text in brought]
    others = tuple(minor for minor in release.pythons.get(request.architecture, ()) if minor != request.python)
    return LockInputs(
        request,
        tuple(requirements),
        tuple(constraints),
        tuple(notes),
        others,
        without=tuple(without),
        from_source=(*tables.source_distributions_for(release.version, request.python), *request.source_builds),
        limits=limits,
    )


def _companion_lines(
    tables: Tables,
    request: LockRequest,
    requirements: list[InputLine],
    constraints: list[InputLine],
    notes: list[str],
) -> tuple[InputLine, ...]:
    """Adds the bounds of what the file names to its lines, and returns those of other projects."""
    named = {line.project for line in requirements}
    users = (*requirements, *constraints)
    limits = []
    for row in tables.companions_for(request.release, request.python):
        line = InputLine(row.requirement, f"TensorFlow {request.release} needs it", row.symptom)
        other = _overruling(row, users, request) if row.kind == "prefer" else None
        if row.kind == "add":
            requirements += [line] if row.project in named else []
        elif other is not None:
            notes.append(
                f"{other.where}: parts of {other.text} do not work with TensorFlow {request.release}: {row.symptom}. "
                f"{row.requirement} works."
            )
        elif row.project in named:
            constraints.append(line)
        else:
            limits.append(line)
    return tuple(limits)


def _overruling(row: Companion, lines: Iterable[InputLine], request: LockRequest) -> InputLine | None:
    """The line that names another version than the table prefers."""
    preferred = Requirement(row.requirement).specifier
    for line in lines:
        asked = Requirement(line.text)
        applying = line.project == row.project and applies(asked, request.python, request.architecture)
        if applying and overrules(asked.specifier, preferred):
            return line
    return None


def _release(tables: Tables, version: str) -> Release:
    release = tables.release(version)
    if release is None:
        which = f"The tables know no TensorFlow release {version}"
        if version in ("newest", "current"):
            which = f"tensorflow_version is {version}, which is another release on each node, and a lock is for one"
        raise LockError(
            f"{which}. Set tensorflow_version to one of {tables.releases[0].version} to {tables.releases[-1].version}, "
            "or leave it out if tensorflow_requirements names the release."
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


def is_cudnn(requirement: str) -> bool:
    return requirement.startswith("nvidia-cudnn-")


def _project(tables: Tables, request: LockRequest, release: Release, asked: TensorflowRequirement | None) -> str:
    if asked is None:
        return release.cpu_package if request.flavour == "cpu" else release.package
    built_for = release.packages.get(asked.project)
    if built_for is None:
        instead = renamed(tables, asked.project, asked.specifier)
        if instead is not None:
            raise LockError(f"{asked.where} asks for {asked.project}{asked.specifier}. {instead}")
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
        notes.append(f"{wish.where}: [and-cuda] is ignored, the flavour selects the CUDA wheels.")
    return InputLine(str(requirement), wish.where)
