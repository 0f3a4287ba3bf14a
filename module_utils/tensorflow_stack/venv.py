"""Environments: build beside the live one, check, switch by one rename, roll back, remove.

On disk (see docs/architecture.md, "On a node"): a build is a whole venv at its final path, complete once
`build.json` is in it; the environment is a symbolic link to one build. Nothing but the link ever changes
under a running program.
"""

from __future__ import annotations

import base64
import csv
import ctypes
import glob
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Container, NamedTuple

from . import manifest
from .errors import BuildError
from .exclusive import exclusive_lock
from .lockfile import Lock
from .uv import uv_environment

BUILD_RECORD = "build.json"
# Bump when the layout of a build changes, so that every environment is rebuilt once.
_LAYOUT = 1
# Installed bytes (bytecode included) over wheel bytes: 2.6 for TensorFlow 2.8.0 (1,417 MB from 553 MB of wheels).
_INSTALLED_PER_WHEEL_BYTE = 3
# What TensorFlow opens of CUDA and cuDNN; much else lies in the same directories.
_CUDA_LIBRARY = re.compile(
    r"lib(cublas|cublasLt|cudart|cudnn\w*|cufft|cupti|curand|cusolver|cusparse|nccl|nvJitLink|nvrtc)\.so\."
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\Z")
_BUILD_NAME = re.compile(r"(?P<name>.+)-(?P<digest>[0-9a-f]{12})-(?P<number>[0-9]+)\Z")
_DIST_INFO = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)\.dist-info\Z")


@dataclass(frozen=True)
class EnvironmentSpec:
    """Everything that makes one environment what it is; `digest` is its identity."""

    name: str
    root: str
    release: str
    flavour: str
    python: str
    lock: Lock
    cuda: dict[str, Any] | None = None
    cudnn: dict[str, Any] | None = None
    # Directories whose libraries TensorFlow's own loader path does not reach. Relative ones are below
    # site-packages and may hold `*`.
    library_directories: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return os.path.join(self.root, self.name)

    @property
    def digest(self) -> str:
        return environment_digest(
            lock_sha256=self.lock.sha256, python=self.python, library_directories=self.library_directories
        )


def environment_digest(*, lock_sha256: str, python: str, library_directories: tuple[str, ...]) -> str:
    """Identity of an environment: sha256 over the lock's lines, the interpreter and the bound libraries."""
    identity = [_LAYOUT, lock_sha256, python, list(library_directories)]
    return hashlib.sha256(json.dumps(identity).encode("utf-8")).hexdigest()


@dataclass(frozen=True)
class Build:
    """One directory under `.builds`; `record` is None as long as it is not complete."""

    path: str
    record: dict[str, Any] | None

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @property
    def number(self) -> int:
        matched = _BUILD_NAME.match(self.name)
        return int(matched.group("number")) if matched else 0

    @property
    def packages(self) -> dict[str, str]:
        return dict(self.record["packages"]) if self.record else {}


class Damage(NamedTuple):
    """One way in which a build is not what it was; `package` is None where it is not one package's."""

    package: str | None
    text: str


@dataclass(frozen=True)
class Outcome:
    """What was or, in check mode, would be done to one environment."""

    action: str  # keep, build, repair, switch, rollback, remove
    before: Build | None
    after_packages: dict[str, str]
    damage: tuple[Damage, ...] = ()
    build: str | None = None
    removed_builds: tuple[str, ...] = ()
    bytes_to_fetch: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        return self.action != "keep"


# ---------------------------------------------------------------------------------------------- reading


def live_build(root: str, name: str) -> Build | None:
    """The build that the environment's link points to, or None.

    Raises BuildError when something that this toolkit did not make stands at the environment's path.
    """
    link = os.path.join(root, name)
    if not os.path.islink(link):
        if os.path.exists(link):
            raise BuildError(
                f"{link} exists and was not made by this toolkit (it is no link into {root}/.builds). "
                "Move it away, or set tensorflow_root to another directory.",
                path=link,
            )
        return None
    target = os.path.normpath(os.path.join(root, os.readlink(link)))
    if os.path.dirname(target) != os.path.join(root, ".builds"):
        raise BuildError(
            f"{link} is a link to {target}, outside {root}/.builds, which this toolkit did not make. "
            "Move it away, or set tensorflow_root to another directory.",
            path=link,
        )
    return Build(target, _read_record(target))


def builds_of(root: str, name: str) -> list[Build]:
    """Every build of one environment, complete or not, oldest first."""
    found = []
    for path in glob.glob(os.path.join(glob.escape(os.path.join(root, ".builds", name)), "")[:-1] + "-*"):
        matched = _BUILD_NAME.match(os.path.basename(path))
        if matched and matched.group("name") == name and os.path.isdir(path):
            found.append(Build(path, _read_record(path)))
    return sorted(found, key=lambda build: build.number)


def _read_record(path: str) -> dict[str, Any] | None:
    try:
        with open(os.path.join(path, BUILD_RECORD), encoding="utf-8") as stream:
            record = json.load(stream)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("packages"), dict) else None


def find_damage(build: Build, *, hashed: Container[str] = ()) -> list[Damage]:
    """What is wrong with a complete build; empty when it is as it was built.

    Names and sizes of every installed file are looked at (under 0.1 s for TensorFlow 2.8.0); contents
    only of the packages in `hashed`.
    """
    if build.record is None:
        return [Damage(None, f"{build.name} is not complete")]
    damage = []
    interpreter = os.path.join(build.path, "bin", "python")
    if not os.access(interpreter, os.X_OK):
        damage.append(Damage(None, f"its interpreter {os.path.realpath(interpreter)} is gone"))
    site_packages = os.path.join(build.path, build.record["site_packages"])
    try:
        entries = set(os.listdir(site_packages))
    except OSError as error:
        return damage + [Damage(None, f"{site_packages} cannot be read: {error.strerror}")]
    installed = {}
    for entry in entries:
        matched = _DIST_INFO.match(entry)
        if matched:
            installed[_normalised(matched.group("name"))] = matched.group("version"), entry
    for name, version in sorted(build.packages.items()):
        found = installed.pop(name, None)
        if found is None:
            damage.append(Damage(name, f"{name} {version} is not installed"))
        elif not _same_version(found[0], version):
            damage.append(Damage(name, f"{name} is {found[0]}, not {version}"))
        else:
            texts = _file_damage(site_packages, found[1], hashes=name in hashed)
            damage += [Damage(name, f"{name}: {text}") for text in texts]
    added = [f"{name} {version} was added" for name, (version, _) in sorted(installed.items())]
    owned = set(build.record["top_level"]) | {entry for _, entry in installed.values()} | {"__pycache__"}
    added += [f"{entry} was added to site-packages" for entry in sorted(entries - owned)]
    for link, target in sorted(build.record["links"].items()):
        path = os.path.join(build.path, link)
        if not os.path.islink(path) or os.readlink(path) != target:
            added.append(f"the library link {link} is not there")
        elif not os.path.exists(path):
            added.append(f"the library {target} behind {link} is gone")
    return damage + [Damage(None, text) for text in added]


def _file_damage(site_packages: str, dist_info: str, *, hashes: bool) -> list[str]:
    """The first file of a distribution that is not as its RECORD says; a list of one, or empty."""
    try:
        with open(os.path.join(site_packages, dist_info, "RECORD"), encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
    except OSError as error:
        return [f"its RECORD cannot be read: {error.strerror}"]
    for row in rows:
        # Bytecode is the interpreter's to rewrite; a RECORD does not list its own size.
        if len(row) != 3 or row[0].endswith(".pyc") or not row[2]:
            continue
        path = os.path.join(site_packages, row[0])
        try:
            size = os.lstat(path).st_size
        except OSError:
            return [f"{row[0]} is missing"]
        if size != int(row[2]) and not os.path.islink(path):
            return [f"{row[0]} has {size} bytes, not {row[2]}"]
        if hashes and not _has_hash(path, row[1]):
            return [f"the contents of {row[0]} differ from what was installed"]
    return []


def _has_hash(path: str, recorded: str) -> bool:
    algorithm, _, expected = recorded.partition("=")
    if not expected:
        return True
    digest = hashlib.new(algorithm)
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode("ascii") == expected


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _same_version(left: str, right: str) -> bool:
    # A directory name spells a version as its wheel did ("2022.07.01"), a lock in normal form ("2022.7.1").
    return _plain_version(left) == _plain_version(right)


def _plain_version(version: str) -> str:
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", version.lower().replace("_", "+").replace("-", "+"))


# --------------------------------------------------------------------------------------------- planning


def plan_present(spec: EnvironmentSpec, *, hashes: bool = False) -> Outcome:
    """What has to be done so that the environment is there; reads only."""
    _check_name(spec.name)
    live = live_build(spec.root, spec.name)
    wanted = spec.lock.packages
    hashed = wanted if hashes else ()
    if live and live.record and live.record["digest"] == spec.digest:
        damage = find_damage(live, hashed=hashed)
        if not damage:
            return Outcome("keep", live, wanted, build=live.name)
        return Outcome("repair", live, wanted, damage=tuple(damage), bytes_to_fetch=_bytes_to_fetch(spec))
    for build in reversed(builds_of(spec.root, spec.name)):
        if build.record and build.record["digest"] == spec.digest and not find_damage(build, hashed=hashed):
            return Outcome("switch", live, wanted, build=build.name)
    return Outcome("build", live, wanted, bytes_to_fetch=_bytes_to_fetch(spec))


def plan_previous(root: str, name: str) -> Outcome:
    """The build to roll back to: the newest undamaged one that is older than the live one."""
    _check_name(name)
    live = live_build(root, name)
    if live is None:
        raise BuildError(f"There is no environment {name} in {root}: {_listed(_environment_names(root))}.")
    spoiled = []
    for build in reversed(builds_of(root, name)):
        if build.number >= live.number or build.record is None:
            continue
        damage = find_damage(build)
        if not damage:
            return Outcome("rollback", live, build.packages, build=build.name)
        spoiled.append(f"{build.name} ({damage[0].text})")
    tried = f" Damaged builds are not used: {'; '.join(spoiled)}." if spoiled else ""
    raise BuildError(
        f"{name} has no build to roll back to that is older than {live.name}.{tried} "
        "tensorflow_venv_keep says how many builds are kept."
    )


def plan_absent(root: str, name: str) -> Outcome:
    """What removing the environment takes away."""
    _check_name(name)
    live = live_build(root, name)
    builds = tuple(build.name for build in builds_of(root, name))
    if live is None and not builds:
        return Outcome("keep", None, {})
    return Outcome("remove", live, {}, removed_builds=builds)


def _bytes_to_fetch(spec: EnvironmentSpec) -> int:
    """Wheel bytes of what no complete build under this root holds yet (the cache has the rest)."""
    held = set()
    for path in glob.glob(os.path.join(glob.escape(spec.root), ".builds", "*", BUILD_RECORD)):
        record = _read_record(os.path.dirname(path))
        held |= set(record["packages"].items()) if record else set()
    return sum(d.bytes for d in spec.lock.distributions if (d.name, d.version) not in held)


def _environment_names(root: str) -> list[str]:
    try:
        return sorted(entry for entry in os.listdir(root) if os.path.islink(os.path.join(root, entry)))
    except OSError:
        return []


def _listed(names: list[str]) -> str:
    return f"there are {', '.join(names)}" if names else "there are none"


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        raise BuildError(
            f"{name!r} is no name for an environment: letters, digits and . _ + - only, a letter or digit first."
        )


# --------------------------------------------------------------------------------------------- applying


@dataclass(frozen=True)
class Installer:
    """How packages are installed: `uv` (path of the program) or, with None, the interpreter's own pip."""

    uv: str | None
    index_url: str | None = None
    offline: bool = False
    cache: str | None = None


def apply_present(
    spec: EnvironmentSpec,
    *,
    installer: Callable[[], Installer],
    keep: int,
    lock_timeout: float,
    hashes: bool = False,
    import_timeout: float = 300,
) -> Outcome:
    """Make the environment present. `installer` is called only when something has to be installed."""
    if plan_present(spec, hashes=hashes).action == "keep":
        return plan_present(spec, hashes=False)
    _make_root(spec.root)
    with exclusive_lock(_lock_path(spec.root, spec.name), what=spec.path, wait=lock_timeout):
        # Another run may have done it while this one waited.
        outcome = plan_present(spec, hashes=hashes)
        if outcome.action == "keep":
            return outcome
        seconds: dict[str, float] = {}
        if outcome.action == "switch":
            build = Build(os.path.join(spec.root, ".builds", str(outcome.build)), None)
        else:
            _sweep(spec.root, spec.name)
            _check_disk(spec, outcome)
            build = _build(spec, installer(), outcome.damage, import_timeout, seconds)
        _switch(spec.root, spec.name, build.name)
        removed = _prune(spec.root, spec.name, keep)
    return Outcome(
        outcome.action,
        outcome.before,
        outcome.after_packages,
        damage=outcome.damage,
        build=build.name,
        removed_builds=tuple(removed),
        bytes_to_fetch=outcome.bytes_to_fetch,
        seconds=seconds,
    )


def apply_previous(root: str, name: str, *, lock_timeout: float) -> Outcome:
    plan_previous(root, name)
    with exclusive_lock(_lock_path(root, name), what=os.path.join(root, name), wait=lock_timeout):
        outcome = plan_previous(root, name)
        _switch(root, name, str(outcome.build))
    return outcome


def apply_absent(root: str, name: str, *, lock_timeout: float) -> Outcome:
    if plan_absent(root, name).action == "keep":
        return plan_absent(root, name)
    with exclusive_lock(_lock_path(root, name), what=os.path.join(root, name), wait=lock_timeout):
        outcome = plan_absent(root, name)
        builds = builds_of(root, name)
        users = processes_using([build.path for build in builds])
        if users:
            raise BuildError(
                f"{os.path.join(root, name)} is in use by {_processes(users)}; nothing was removed. "
                "End these processes and run again.",
                processes=users,
            )
        # The link goes first: a run killed after it leaves unused directories, never a broken environment.
        if os.path.islink(os.path.join(root, name)):
            os.unlink(os.path.join(root, name))
        for build in builds:
            _remove_build(build)
    return outcome


def record_in_manifest(root: str, name: str) -> bool:
    """Bring the environment's entry in the node's manifest up to date; gives back whether it was not.

    The manifest follows the disk: a run killed between the switch and this is made good by the next one.
    """
    live = live_build(root, name)
    builds = [build.name for build in builds_of(root, name) if build.record]

    def change(content: dict[str, Any]) -> None:
        if live is None or live.record is None:
            content["environments"].pop(name, None)
            if content.get("current") == name:
                content["current"] = None
            return
        entry = content["environments"].setdefault(name, {"check": None})
        for key in ("release", "flavour", "build", "digest", "python", "lock_sha256"):
            entry[key] = live.record[key]
        entry["builds"] = builds
        content["current"] = name

    return manifest.update(root, change)


def _lock_path(root: str, name: str) -> str:
    return os.path.join(root, ".locks", name)


def _make_root(root: str) -> None:
    try:
        os.makedirs(os.path.join(root, ".builds"), mode=0o755, exist_ok=True)
    except OSError as error:
        raise BuildError(
            f"The environments' root {root} cannot be written: {error.strerror}. "
            "Set tensorflow_root to a directory of yours, or run as root.",
            path=root,
        ) from error
    for path in (root, os.path.join(root, ".builds")):
        status = os.stat(path)
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o002:
            raise BuildError(
                f"{path} could be changed by others (owner {status.st_uid}, mode {status.st_mode & 0o7777:04o}): "
                "an environment there would run their code. Set tensorflow_root to a directory that only you write.",
                path=path,
            )
        if not os.access(path, os.W_OK):
            raise BuildError(
                f"The environments' root {path} cannot be written by user {os.geteuid()}. "
                "Set tensorflow_root to a directory of yours, or run as its owner.",
                path=path,
            )


def _check_disk(spec: EnvironmentSpec, outcome: Outcome) -> None:
    needed = outcome.bytes_to_fetch * _INSTALLED_PER_WHEEL_BYTE
    status = os.statvfs(spec.root)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise BuildError(
            f"{spec.name} needs about {needed >> 20:,} MiB below {spec.root}, {free >> 20:,} MiB are free. "
            "Free some space, or set tensorflow_root to a larger file system. Nothing was changed.",
            needed_bytes=needed,
            free_bytes=free,
        )


def _build(
    spec: EnvironmentSpec,
    installer: Installer,
    damage: tuple[Damage, ...],
    import_timeout: float,
    seconds: dict[str, float],
) -> Build:
    """A complete new build beside the live one; on any failure it is removed again."""
    number = max([build.number for build in builds_of(spec.root, spec.name)] or [0]) + 1
    path = os.path.join(spec.root, ".builds", f"{spec.name}-{spec.digest[:12]}-{number}")
    log_path = os.path.join(spec.root, ".builds", f"{spec.name}.log")
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        _phase(log, f"Building {os.path.basename(path)}")
        os.mkdir(path, 0o755)
        started = time.monotonic()
        _install(spec, installer, path, log)
        seconds["install"] = round(time.monotonic() - started, 3)
        site_packages = os.path.join("lib", "python" + spec.lock.python, "site-packages")
        record = {
            "name": spec.name,
            "release": spec.release,
            "flavour": spec.flavour,
            "digest": spec.digest,
            "build": os.path.basename(path),
            "python": {"minor": spec.lock.python, "path": spec.python},
            "cuda": spec.cuda,
            "cudnn": spec.cudnn,
            "lock_sha256": spec.lock.sha256,
            "packages": spec.lock.packages,
            "site_packages": site_packages,
            "links": _link_libraries(path, site_packages, spec.library_directories),
            "top_level": sorted(os.listdir(os.path.join(path, site_packages))),
        }
        # Builds share their files with uv's cache by hard links: what was changed in place in the damaged build
        # is changed in the cache.
        suspects = {package for package, _ in damage if package}
        if installer.uv and suspects and find_damage(Build(path, record), hashed=suspects):
            _reinstall(spec, installer, path, log, sorted(suspects & spec.lock.packages.keys()))
        found = find_damage(Build(path, record), hashed=suspects)
        if found:
            texts = "; ".join(text for _, text in found[:5])
            raise BuildError(f"{spec.name} was installed but is not what its lock says: {texts}.")
        _phase(log, "Importing TensorFlow from the new build")
        started = time.monotonic()
        _import(spec, path, log, log_path, import_timeout)
        seconds["import"] = round(time.monotonic() - started, 3)
        # Without this a power cut after the rename could leave a live build with empty files.
        os.sync()
        _write_new(os.path.join(path, BUILD_RECORD), json.dumps(record, indent=1, sort_keys=True) + "\n")
        _phase(log, "Complete")
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    finally:
        os.close(log)
    return Build(path, record)


def _install(spec: EnvironmentSpec, installer: Installer, path: str, log: int) -> None:
    lock_path = os.path.join(path, "lock.txt")
    _write_new(lock_path, spec.lock.text)
    environment = uv_environment(cache=installer.cache, index_url=installer.index_url)
    if installer.uv:
        # --allow-existing: the directory is there already, it holds the lock that is installed from.
        _run([installer.uv, "venv", "--quiet", "--allow-existing", "--python", spec.python, path], environment, log)
        command = _sync_command(installer.uv, path)
        # A warm cache needs no network, and with no cache there is nothing to try.
        is_cached = installer.cache and os.path.isdir(installer.cache)
        if not (is_cached and _succeeds(command + ["--offline"], environment, log)):
            if installer.offline:
                raise BuildError(
                    f"{spec.name} cannot be built offline: the cache {installer.cache} lacks some of its packages.",
                    stderr="\n".join(_tail(log)),
                )
            _run(command, environment, log)
        # With nothing left to install; in a step of its own so that the log says what takes so long.
        _phase(log, "Compiling bytecode")
        _run(command + ["--compile-bytecode", "--offline"], environment, log)
        return
    python = os.path.join(path, "bin", "python")
    _run([spec.python, "-m", "venv", path], environment, log)
    pip = [python, "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-input"]
    index = ["--index-url", installer.index_url] if installer.index_url else []
    if "UV_FIND_LINKS" in environment:  # the index is a directory of wheels
        index = ["--no-index", "--find-links", environment["UV_FIND_LINKS"]]
    command = pip + ["install", "--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", lock_path]
    _run(command + index, environment, log)
    # ensurepip brought these; an environment holds what its lock names and nothing else.
    extra = [name for name in ("setuptools", "wheel", "pip") if name not in spec.lock.packages]
    if extra:
        _run(pip + ["uninstall", "--yes"] + extra, environment, log)
    _run([python, "-m", "compileall", "-q", os.path.join(path, "lib")], environment, log)


def _sync_command(uv: str, path: str) -> list[str]:
    command = [uv, "pip", "sync", "--python", os.path.join(path, "bin", "python"), "--require-hashes"]
    return command + ["--only-binary", ":all:", os.path.join(path, "lock.txt")]


def _reinstall(spec: EnvironmentSpec, installer: Installer, path: str, log: int, names: list[str]) -> None:
    """Install packages anew from the index, not from what the cache has of them."""
    environment = uv_environment(cache=installer.cache, index_url=installer.index_url)
    uv = str(installer.uv)
    _phase(log, f"Fetching {', '.join(names)} anew: the cache was damaged")
    _run([uv, "cache", "clean", "--quiet"] + names, environment, log)
    command = _sync_command(uv, path) + ["--compile-bytecode"]
    _run(command + [option for name in names for option in ("--reinstall-package", name)], environment, log)


def _link_libraries(path: str, site_packages: str, directories: tuple[str, ...]) -> dict[str, str]:
    """Link the shared libraries of `directories` into TensorFlow's own directory.

    The loader looks there ($ORIGIN in the RUNPATH of libtensorflow_framework), whoever starts Python and
    with whatever environment variables.
    """
    links: dict[str, str] = {}
    package = os.path.join(path, site_packages, "tensorflow")
    for directory in directories:
        pattern = directory
        if not os.path.isabs(directory):
            pattern = os.path.join(glob.escape(os.path.join(path, site_packages)), directory)
        for library in sorted(glob.glob(os.path.join(pattern, "lib*.so.*"))):
            link = os.path.join(package, os.path.basename(library))
            target = library if os.path.isabs(directory) else os.path.relpath(library, package)
            if _CUDA_LIBRARY.match(os.path.basename(library)) and not os.path.lexists(link):
                os.symlink(target, link)
                links[os.path.relpath(link, path)] = target
    return links


def _import(spec: EnvironmentSpec, path: str, log: int, log_path: str, timeout: float) -> None:
    """Import TensorFlow from a build that is not live yet.

    Metadata cannot promise this: tensorflow 2.8.0 with an unpinned protobuf installs, passes `pip check`, and fails here.
    """
    program = "import tensorflow; print('TensorFlow', tensorflow.__version__)"
    command = [os.path.join(path, "bin", "python"), "-I", "-c", program]
    size = os.fstat(log).st_size
    try:
        _run(command, _clean_environment(), log, timeout=timeout)
    except BuildError as error:
        with open(log_path, encoding="utf-8", errors="replace") as stream:
            stream.seek(size)
            said = [line.strip() for line in stream if line.strip()]
        reason = next((line for line in said if re.match(r"[A-Za-z_.]*(Error|Exception)\b", line)), said[-1] if said else "")
        raise BuildError(
            f"{spec.name} was built, but `import tensorflow` fails in it: {reason or error.message} "
            "The build was removed and the live environment is unchanged. A pin of tensorflow_requirements that the "
            "release cannot live with is the usual cause.",
            stderr="\n".join(said[-20:]),
        ) from error


def _switch(root: str, name: str, build: str) -> None:
    temporary = os.path.join(root, ".builds", f".{name}.link")
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(os.path.join(".builds", build), temporary)
    os.replace(temporary, os.path.join(root, name))
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(root: str, name: str) -> None:
    """Remove what killed runs left behind; the caller holds the lock, so nobody is building."""
    for build in builds_of(root, name):
        if build.record is None:
            shutil.rmtree(build.path)


def _prune(root: str, name: str, keep: int) -> list[str]:
    """Remove the oldest builds beyond `keep`, the live one counted; one that a process uses stays."""
    live = live_build(root, name)
    old = [build for build in builds_of(root, name) if live is None or build.name != live.name]
    removed = []
    for build in old[: max(0, len(old) - max(0, keep - 1))]:
        if not processes_using([build.path]):
            _remove_build(build)
            removed.append(build.name)
    return removed


def _remove_build(build: Build) -> None:
    # Without its record a half removed directory is swept by the next build and never taken for complete.
    record = os.path.join(build.path, BUILD_RECORD)
    if os.path.lexists(record):
        os.unlink(record)
    shutil.rmtree(build.path)


def processes_using(paths: list[str]) -> list[int]:
    """Processes that have a file below one of `paths` mapped, as far as this user may look."""
    prefixes = tuple(os.path.join(os.path.realpath(path), "") for path in paths)
    found = []
    for maps in glob.glob("/proc/[0-9]*/maps"):
        try:
            with open(maps, encoding="utf-8", errors="replace") as stream:
                if any(line.split(None, 5)[-1].startswith(prefixes) for line in stream):
                    found.append(int(maps.split("/")[2]))
        except OSError:
            continue
    return sorted(found)


def _processes(pids: list[int]) -> str:
    return ("process " if len(pids) == 1 else "processes ") + ", ".join(str(pid) for pid in pids)


# ------------------------------------------------------------------------------------------- processes


def _clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    kept.pop("LD_PRELOAD", None)
    return dict(kept, LC_ALL="C.UTF-8")


def _succeeds(command: list[str], environment: dict[str, str], log: int) -> bool:
    try:
        _run(command, environment, log)
    except BuildError:
        return False
    return True


def _run(command: list[str], environment: dict[str, str], log: int, timeout: float | None = None) -> None:
    """Run a command whose output goes to the build log, in a process group of its own.

    It dies with this process, and inherits the lock: a killed run never leaves a writer behind that the next
    run does not wait for.
    """
    start = os.fstat(log).st_size
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment,
        start_new_session=True,
        close_fds=False,
        preexec_fn=_die_with_parent,
    )
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise BuildError(f"{os.path.basename(command[0])} did not end within {timeout:g} s.", cmd=command) from None
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if code:
        said = _tail(log, start)
        # uv and pip say what failed in a line that starts with "error", and why in the lines after it.
        first = next((i for i, line in enumerate(said) if line.lower().startswith("error")), len(said) - 1)
        reason = " ".join(said[first:]) if said else "it said nothing"
        raise BuildError(
            f"{os.path.basename(command[0])} {command[1] if len(command) > 1 else ''} ended with {code}: {reason}",
            cmd=command,
            rc=code,
            stderr="\n".join(said),
        )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _tail(log: int, start: int = 0) -> list[str]:
    with open(f"/proc/self/fd/{log}", "rb") as stream:
        stream.seek(start)
        text = stream.read().decode("utf-8", "replace")
    return [line.strip() for line in text.splitlines() if line.strip()][-20:]


def _phase(log: int, text: str) -> None:
    os.write(log, (text + "\n").encode("utf-8"))


def _write_new(path: str, text: str) -> None:
    """Write a file that must not exist yet, durably."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
