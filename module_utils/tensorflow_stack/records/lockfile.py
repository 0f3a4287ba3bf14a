"""A lock: every distribution of one environment, with the hashes of the wheels that fit its target.

A few old ones have no wheel: their line ends with "from source", and the lock says what they are built with.

The file is a requirements file that pip and uv read as it is; `docs/architecture.md` shows one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import LockError
from ..io.reading import read_whole
from ..io.writing import write_text

LOCK_BYTES = 16 << 20

_HEADER = re.compile(r"# (?P<key>[a-z][a-z0-9_ ]*): ?(?P<value>.*)")
_DISTRIBUTION = re.compile(
    r"(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*)==(?P<version>[0-9][A-Za-z0-9.!+_]*)"
    r"(?P<hashes>(?: --hash=sha256:[0-9a-f]{64})*) # (?P<bytes>[0-9]{1,18}) bytes(?P<from_source>, from source)?"
)
_BUILT_WITH = "# built with: "
_CONSTRAINT = re.compile(r"(?P<requirement>.+?) \((?P<symptom>.*)\)")
_REQUIRED_KEYS = ("release", "python", "platform", "flavour", "requirements", "inputs_sha256", "cutoff")


@dataclass(frozen=True)
class Distribution:
    """One line of a lock; `bytes` is the size of the wheel, or of the source, that an installer takes."""

    name: str
    version: str
    hashes: tuple[str, ...]
    bytes: int
    from_source: bool = False


@dataclass(frozen=True)
class LockedConstraint:
    """A limit that the release needs and its metadata lack, with what is seen without it."""

    requirement: str
    symptom: str


@dataclass(frozen=True)
class Lock:
    release: str
    python: str
    platform: str
    flavour: str
    requirements: tuple[str, ...]
    constraints: tuple[LockedConstraint, ...]
    inputs_sha256: str
    cutoff: str
    distributions: tuple[Distribution, ...]
    # Required by one of them, and left out since the node has it.
    without: tuple[str, ...] = ()
    # What those from source are built with; they are in no environment.
    built_with: tuple[Distribution, ...] = ()
    # Requirements that one environment has beside those of its release and file: see locking/added.py.
    added: tuple[str, ...] = ()

    @property
    def total_bytes(self) -> int:
        return sum(distribution.bytes for distribution in self.distributions)

    @property
    def sha256(self) -> str:
        """Digest of the distributions: two locks that install the same have the same one."""
        return _sha256(_render_body(self))

    @property
    def text(self) -> str:
        return render_lock(self)

    @property
    def packages(self) -> dict[str, str]:
        return {distribution.name: distribution.version for distribution in self.distributions}

    @property
    def build_constraints(self) -> str:
        """`built_with` as a constraints file."""
        return "".join(map(_render_line, self.built_with))

    @property
    def from_source(self) -> tuple[str, ...]:
        return tuple(distribution.name for distribution in self.distributions if distribution.from_source)


def lock_path(directory: str, *, release: str, python: str, platform: str, flavour: str) -> str:
    """Where the lock of one target is under a directory of locks."""
    tag = "cp" + python.replace(".", "")
    return os.path.join(directory, f"tensorflow-{release}", f"{tag}-{platform}-{flavour}.txt")


def read_lock(path: str) -> Lock | None:
    """The lock at `path`, None when nothing is there; refuses what `parse_lock` refuses."""
    try:
        raw = read_whole(path, LOCK_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LockError(f"The lock {path} cannot be read: {error.strerror}. Make it a readable file.") from error
    return parse_lock(raw.decode("utf-8", "replace"), path=path)


def read_lock_if_whole(path: str) -> Lock | None:
    """The lock at `path`, None also for one that is damaged: for locks that are made again at any time."""
    try:
        return read_lock(path)
    except LockError:
        return None


def write_lock(path: str, lock: Lock) -> None:
    directory = os.path.dirname(path)
    try:
        os.makedirs(directory, exist_ok=True)
        write_text(path, lock.text)
    except OSError as error:
        raise LockError(
            f"The lock {path} cannot be written: {error.strerror}. Make {directory} writable, or set "
            "tensorflow_lock_directory to another directory."
        ) from error


def package_lines(packages: Mapping[str, str]) -> str:
    """For a diff."""
    return "".join(f"{name}=={version}\n" for name, version in sorted(packages.items()))


def render_lock(lock: Lock) -> str:
    header = [
        f"# TensorFlow {lock.release} for CPython {lock.python}, {lock.platform}, {lock.flavour}",
        "# made by: playbooks/lock.yml (do not edit)",
        f"# release: {lock.release}",
        f"# python: {lock.python}",
        f"# platform: {lock.platform}",
        f"# flavour: {lock.flavour}",
        f"# requirements: {', '.join(lock.requirements)}",
        *([f"# added: {', '.join(lock.added)}"] if lock.added else []),
        *(f"# constraint: {known.requirement} ({known.symptom})" for known in lock.constraints),
        *([f"# without: {', '.join(lock.without)} (the node's own is used)"] if lock.without else []),
        f"# inputs_sha256: {lock.inputs_sha256}",
        f"# cutoff: {lock.cutoff}",
        f"# body_sha256: {lock.sha256}",
    ]
    return "\n".join(header) + "\n" + _render_body(lock)


def parse_lock(text: str, *, path: str) -> Lock:
    """The lock that `text` is; LockError names file, line and what to do when it is none."""
    values: dict[str, str] = {}
    constraints: list[LockedConstraint] = []
    lines = text.splitlines(keepends=True)
    body_start = 0
    for number, line in enumerate(lines, start=1):
        header = _HEADER.fullmatch(line.rstrip("\n"))
        if header is None:
            if number == 1 and line.startswith("# "):
                continue
            break
        key, value = header.group("key"), header.group("value")
        if key == "constraint":
            constraints.append(_parse_constraint(value, path=path, number=number))
        elif key in values:
            raise _refusal(path, number, f"the header has {key!r} twice")
        else:
            values[key] = value
        if key == "body_sha256":
            body_start = number
            break
    if not body_start:
        raise _refusal(path, 1, "this is not a lock, or only the start of one: its header has no 'body_sha256'")
    missing = [key for key in _REQUIRED_KEYS if key not in values]
    if missing:
        raise _refusal(path, 1, f"the header lacks {', '.join(missing)}")

    body = lines[body_start:]
    distributions, built_with = _parse_body(body, path=path, first=body_start + 1)
    found = _sha256("".join(body))
    if found != values["body_sha256"]:
        raise _refusal(
            path,
            body_start,
            f"the {len(body)} lines below have the digest {found[:12]}, not {values['body_sha256'][:12]}: "
            "the file was truncated or edited by hand",
        )
    return Lock(
        release=values["release"],
        python=values["python"],
        platform=values["platform"],
        flavour=values["flavour"],
        requirements=tuple(values["requirements"].split(", ")),
        constraints=tuple(constraints),
        inputs_sha256=values["inputs_sha256"],
        cutoff=values["cutoff"],
        distributions=distributions,
        without=tuple(values["without"].rpartition(" (")[0].split(", ")) if "without" in values else (),
        built_with=built_with,
        added=tuple(values["added"].split(", ")) if "added" in values else (),
    )


def _parse_constraint(value: str, *, path: str, number: int) -> LockedConstraint:
    match = _CONSTRAINT.fullmatch(value)
    if match is None:
        raise _refusal(path, number, f"a constraint is 'requirement (symptom)', found {value!r}")
    return LockedConstraint(match.group("requirement"), match.group("symptom"))


def _parse_body(lines: list[str], *, path: str, first: int) -> tuple[tuple[Distribution, ...], ...]:
    """What the environment holds, and what that from source is built with."""
    seen: dict[str, int] = {}
    distributions = []
    built_with = []
    for number, line in enumerate(lines, start=first):
        if line.startswith(_BUILT_WITH):
            built_with.append(_parse_line(line[len(_BUILT_WITH) :], path=path, number=number))
            continue
        distribution = _parse_line(line, path=path, number=number)
        name = distribution.name
        if name in seen:
            raise _refusal(path, number, f"{name} is listed twice, first in line {seen[name]}")
        seen[name] = number
        distributions.append(distribution)
    if not distributions:
        raise _refusal(path, first, "the lock has no distribution: the file was truncated")
    return tuple(distributions), tuple(built_with)


def _parse_line(line: str, *, path: str, number: int) -> Distribution:
    match = _DISTRIBUTION.fullmatch(line.rstrip("\n"))
    if match is None:
        raise _refusal(path, number, f"not a line of a lock (truncated or edited?): {line.rstrip()[:120]!r}")
    name = match.group("name")
    if not match.group("hashes"):
        raise _refusal(path, number, f"{name} has no --hash, so no file may be installed for it")
    return Distribution(
        name=name,
        version=match.group("version"),
        hashes=tuple(option.split(":", 1)[1] for option in match.group("hashes").split()),
        bytes=int(match.group("bytes")),
        from_source=match.group("from_source") is not None,
    )


def _render_body(lock: Lock) -> str:
    return "".join(
        [_BUILT_WITH + _render_line(distribution) for distribution in lock.built_with]
        + [_render_line(distribution) for distribution in lock.distributions]
    )


def _render_line(distribution: Distribution) -> str:
    hashes = "".join(f" --hash=sha256:{digest}" for digest in distribution.hashes)
    source = ", from source" if distribution.from_source else ""
    return f"{distribution.name}=={distribution.version}{hashes} # {distribution.bytes} bytes{source}\n"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _refusal(path: str, number: int, found: str) -> LockError:
    return LockError(
        f"{path}:{number}: {found}. Restore the file from its origin, or remove it and make it again "
        "with playbooks/lock.yml.",
        path=path,
        line=number,
    )
