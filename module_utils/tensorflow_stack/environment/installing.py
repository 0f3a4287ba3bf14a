"""Fill a build: install its lock, compare it with its wheels, import TensorFlow. The log has all."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import time
import urllib.parse
from dataclasses import dataclass
from types import TracebackType
from typing import Callable, Container

from ..errors import BuildError
from ..io.commands import run_into
from ..io.trust import private_directory
from ..io.uv import explain_fetch, uv_environment
from ..io.writing import open_to_write, write_new
from ..records.distributions import distributions_in
from ..records.environment import EnvironmentSpec
from ..records.lockfile import Lock
from .builds import Build
from .damage import Comparison, compare_build, describe_file
from .installed_files import correct_metadata_row, find_foreign
from .shared_packages import Linked, link_packages
from .shared_store import find_store
from .source_builds import build_sources

# What is from source is built with these, by hash, too.
_BUILD_CONSTRAINTS = "build-constraints.txt"
# fact: uv 0.13 uses py_compile.PycInvalidationMode, which Python 3.7 introduced, 2026-11-26
_NOT_COMPILED_BY_UV = ("3.6",)


@dataclass(frozen=True)
class Installer:
    """How packages are installed: `uv` (path of the program) or, with None, the interpreter's own pip."""

    uv: str | None
    index_url: str | None = None
    offline: bool = False
    cache: str | None = None


class BuildLog:
    """The log of one build: what the programs say that it runs, and its own phases between them."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stream = open_to_write(path)

    def __enter__(self) -> BuildLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.close()

    def say(self, text: str) -> None:
        """Begin a phase; the mark tells it from what programs print, for who shows the progress of a build."""
        self._stream.write(f"== {text}\n".encode())

    def run(self, command: list[str], environment: dict[str, str], *, timeout: float | None = None) -> None:
        """Run a command that writes to the log; BuildError with its last words unless it ends with 0.

        Its working directory is `/`: what is in that of the caller is nothing to a program of a build.
        """
        start = self._stream.seek(0, os.SEEK_END)
        code = run_into(command, self._stream, self._stream, env=environment, timeout=timeout, cwd="/")
        words = [word for word in command[1:] if word != "-I"]
        program = " ".join([os.path.basename(command[0]), *words[: 2 if words[0] == "-m" else 1]])
        if code is None:
            raise BuildError(
                f"{program} did not end within {timeout:g} s and was stopped. Run again when the machine is less busy; "
                f"what it printed is in {self._path}.",
                cmd=command,
                stderr="",
            )
        if code:
            self._stream.seek(start)
            text = self._stream.read().decode("utf-8", "replace")
            said = [line.strip() for line in text.splitlines() if line.strip()][-20:]
            reason = _reason(said)
            raise BuildError(
                f"{program} ended with {code}: {reason}", cmd=command, rc=code, reason=reason, stderr="\n".join(said)
            )


def _reason(said: list[str]) -> str:
    """What failed: a Python exception's line, or from uv's and pip's line with "error" on, since the why follows it."""
    for line in said:
        if re.match(r"[A-Za-z_.]*(Error|Exception)\b", line):
            return line
    first = next((i for i, line in enumerate(said) if line.lower().startswith("error")), len(said) - 1)
    return " ".join(said[first:]) if said else "it printed nothing"


def install(
    spec: EnvironmentSpec, installer: Installer, path: str, log: BuildLog, distrusted: Container[str] = ()
) -> dict[str, Linked]:
    """Fill the empty directory `path` with a venv that holds what the lock says, bytecode included.

    Gives back the packages that were linked from the store of shared ones, which are never the `distrusted`: they are
    as their wheels have them, and are not compared again.
    """
    lock_path = os.path.join(path, "lock.txt")
    write_new(lock_path, spec.lock.text)
    if spec.lock.built_with:
        write_new(os.path.join(path, _BUILD_CONSTRAINTS), spec.lock.build_constraints)
    environment = uv_environment(cache=installer.cache, index_url=installer.index_url)
    if installer.uv is None:
        _install_with_pip(spec, installer, path, lock_path, environment, log)
        return {}
    # Asked now, since uv makes it for a venv: with no cache and no directory of wheels there is nothing to try offline.
    has_cache = installer.cache is not None and os.path.isdir(installer.cache)
    offline_first = has_cache or installer.offline or "UV_FIND_LINKS" in environment
    # --allow-existing: the directory is there already, it holds the lock that is installed from.
    command = [installer.uv, "venv", "--quiet", "--allow-existing", "--python", spec.python]
    command += ["--prompt", spec.name, path]
    log.run(command, environment)
    store = find_store(installer.cache, path)
    linked = link_packages(store, spec, path, site_packages_of(spec.lock), distrusted) if store else {}
    missing = len(spec.lock.packages) - len(linked)
    if linked:
        log.say(f"Linked {len(linked)} packages that were installed here before")
    if missing:
        _install_with_uv(spec, installer, path, environment, log, missing, offline_first=offline_first)
    return linked


def site_packages_of(lock: Lock) -> str:
    return os.path.join("lib", "python" + lock.python, "site-packages")


def _install_with_uv(
    spec: EnvironmentSpec,
    installer: Installer,
    path: str,
    environment: dict[str, str],
    log: BuildLog,
    missing: int,
    *,
    offline_first: bool,
) -> None:
    """What the venv lacks of its lock."""
    if spec.lock.from_source:
        build_sources(spec.lock, installer, path, log)
    command = _sync_command(str(installer.uv), path, spec.lock)
    # A warm cache needs no network.
    if offline_first:
        log.say(f"Installing {missing} packages from the cache")
    if not (offline_first and _succeeds(command + ["--offline"], environment, log)):
        if installer.offline:
            raise BuildError(
                f"{spec.name} cannot be built offline: the cache {installer.cache} lacks some of its packages. "
                "Unset tensorflow_offline, or set tensorflow_index_url to an index that this node can reach."
            )
        log.say(f"Fetching {missing} packages")
        _fetch(spec, command, environment, log)
    # In a step of its own, so that the log says what takes so long.
    _compile(spec, command, path, environment, log)


def _fetch(spec: EnvironmentSpec, command: list[str], environment: dict[str, str], log: BuildLog) -> None:
    try:
        log.run(command, environment)
    except BuildError as error:
        explained = explain_fetch(error.details.get("reason", ""))
        if explained is None:
            raise
        raise BuildError(f"{spec.name} was not built: {explained}", **error.details) from error


def _compile(
    spec: EnvironmentSpec, sync_command: list[str], path: str, environment: dict[str, str], log: BuildLog
) -> None:
    """Compile every module of a build, in which uv has nothing left to install."""
    if spec.lock.python in _NOT_COMPILED_BY_UV:
        _compile_by_itself(path, environment, log)
        return
    log.say(f"Compiling {_count_modules(path):,} files to bytecode")
    log.run(sync_command + ["--compile-bytecode", "--offline", "--quiet"], environment)


def _compile_by_itself(path: str, environment: dict[str, str], log: BuildLog) -> None:
    log.say(f"Compiling {_count_modules(path):,} files to bytecode")
    python = os.path.join(path, "bin", "python")
    # It ends with 1 if a file is of another grammar, as templates and some tests are; uv passes over these, too.
    _succeeds([python, "-I", "-m", "compileall", "-q", os.path.join(path, "lib")], environment, log)


def _count_modules(path: str) -> int:
    return sum(name.endswith(".py") for _, _, names in os.walk(path) for name in names)


def pip_index(url: str) -> list[str]:
    """Options of pip for an index. It takes nothing from one by http unless it is told to; each file has its hash."""
    parts = urllib.parse.urlsplit(url)
    return ["--index-url", url, *(["--trusted-host", parts.netloc] if parts.scheme == "http" else [])]


def _install_with_pip(
    spec: EnvironmentSpec, installer: Installer, path: str, lock_path: str, environment: dict[str, str], log: BuildLog
) -> None:
    """The same by the interpreter's own pip, for a Python that uv does not drive.

    -I: Python takes no module from a working directory, home or variable. pip reads no configuration, neither of the
    machine nor of the user nor that of a variable.
    """
    environment = {name: value for name, value in environment.items() if not name.startswith("PIP_")}
    environment["PIP_CONFIG_FILE"] = os.devnull
    python = os.path.join(path, "bin", "python")
    log.run([spec.python, "-I", "-m", "venv", "--prompt", spec.name, path], environment)
    pip = [python, "-I", "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-input"]
    index = pip_index(installer.index_url) if installer.index_url else []
    if "UV_FIND_LINKS" in environment:  # the index is a directory of wheels
        index = ["--no-index", "--find-links", environment["UV_FIND_LINKS"]]
    command = pip + ["install", "--require-hashes", "--no-deps", "--only-binary", ":all:", *index]
    # First: the interpreter's own may be too old for the other wheels, and should not replace itself among them.
    own = tuple(found for found in spec.lock.distributions if found.name == "pip")
    if own:
        with private_directory("tensorflow-pip-") as directory:
            lines = os.path.join(directory, "pip.txt")
            write_new(lines, dataclasses.replace(spec.lock, distributions=own, built_with=()).text)
            log.run([*command, "-r", lines], environment)
    # With the setuptools that came with the interpreter: what pip would fetch for a build has no hash.
    command += [*_source_options(spec.lock), "--no-build-isolation"] if spec.lock.from_source else []
    log.say(f"Fetching {len(spec.lock.packages)} packages")
    log.run([*command, "-r", lock_path], environment)
    # ensurepip brought these; an environment holds what its lock names and nothing else.
    extra = [name for name in ("setuptools", "wheel", "pip") if name not in spec.lock.packages]
    if extra:
        log.run(pip + ["uninstall", "--yes"] + extra, environment)
    _compile_by_itself(path, environment, log)


def _sync_command(uv: str, path: str, lock: Lock) -> list[str]:
    command = [uv, "pip", "sync", "--python", os.path.join(path, "bin", "python"), "--require-hashes"]
    command += ["--only-binary", ":all:", *_source_options(lock)]
    if lock.built_with:
        command += ["--build-constraints", os.path.join(path, _BUILD_CONSTRAINTS)]
    return command + [os.path.join(path, "lock.txt")]


def _source_options(lock: Lock) -> list[str]:
    return [option for project in lock.from_source for option in ("--no-binary", project)]


def _succeeds(command: list[str], environment: dict[str, str], log: BuildLog) -> bool:
    try:
        log.run(command, environment)
    except BuildError:
        return False
    return True


def compare(
    spec: EnvironmentSpec,
    installer: Installer,
    path: str,
    log: BuildLog,
    describe: Callable[[], Build],
    linked: dict[str, Linked],
) -> Build:
    """The build that was installed, once each of its files is what its wheel says; raises BuildError.

    Builds share their files with uv's cache by hard links: what was edited in place in one of them is edited in the
    cache. So what is not right is fetched anew. What was `linked` was compared then; what of it is not right after all,
    since another package overwrote it, is taken out of there.
    """
    are_all_linked = len(linked) == len(spec.lock.packages)
    if not are_all_linked:
        log.say("Comparing every file with its wheel")

    def look(progress: Callable[[int, int], None] | None = None) -> tuple[Build, Comparison, list[str]]:
        build = describe()
        unproven = spec.lock.packages.keys() - linked.keys()
        found = compare_build(
            build, hashed=unproven, is_new=True, skipped=linked if are_all_linked else (), progress=progress
        )
        return build, found, sorted({package for package, _ in found.damage if package})

    build, found, spoiled = look(_Counted(log).say)
    for name in spoiled:
        linked.pop(name, None)
    if installer.uv and spoiled:
        _reinstall(spec, installer, path, log, spoiled)
        build, found, spoiled = look()
    # The archive has the hash of the lock and was unpacked just now: a METADATA that differs was so when it was made.
    if spoiled and _correct_metadata_rows(build, spoiled):
        build, found, spoiled = look()
    if found.damage:
        texts = "; ".join(text for _, text in found.damage[:5])
        fault = (
            f" The wheel itself is wrong, even after another download: name another version of {', '.join(spoiled)} in "
            "tensorflow_requirements, or another index in tensorflow_index_url."
            if spoiled
            else ""
        )
        raise BuildError(f"{spec.name} was installed but is not what its lock says: {texts}.{fault}")
    if found.inside and build.record:
        # A wheel may have files that its RECORD does not list.
        build.record["unlisted"] = {name: describe_file(path, name) for name in found.inside}
    foreign = find_foreign(path, ("bin",) if are_all_linked else ("bin", "lib"))
    if foreign:
        raise BuildError(
            f"{spec.name} was installed with {foreign.path}, which {foreign.text}: somebody else has written to the "
            "cache. Move the cache away and run again, which downloads everything again: "
            f"mv {shlex.quote(str(installer.cache))} {shlex.quote(f'{installer.cache}.old')}"
        )
    return build


def _correct_metadata_rows(build: Build, packages: list[str]) -> bool:
    site_packages = os.path.join(build.path, build.record["site_packages"]) if build.record else ""
    installed = distributions_in(os.listdir(site_packages)) if site_packages else {}
    return any([correct_metadata_row(site_packages, installed[name][0][1]) for name in packages if name in installed])


class _Counted:
    """Says how far a comparison is, about once a second."""

    def __init__(self, log: BuildLog) -> None:
        self._log = log
        self._said = time.monotonic()

    def say(self, done: int, total: int) -> None:
        if time.monotonic() - self._said >= 1:
            self._said = time.monotonic()
            self._log.say(f"Comparing every file with its wheel, {done} of {total} packages")


def _reinstall(spec: EnvironmentSpec, installer: Installer, path: str, log: BuildLog, packages: list[str]) -> None:
    """Install packages anew from the index, not from what uv's cache has of them."""
    environment = uv_environment(cache=installer.cache, index_url=installer.index_url)
    uv = str(installer.uv)
    if installer.offline and "UV_FIND_LINKS" not in environment:
        raise BuildError(
            f"{spec.name} cannot be built offline: files of {', '.join(packages)} in the cache {installer.cache} were "
            "changed, for example by an edit in an environment that shares them. Unset tensorflow_offline for one "
            "run, which "
            "downloads them again."
        )
    log.say(f"Fetching {', '.join(packages)} again: the cache was damaged")
    log.run([uv, "cache", "clean", "--quiet"] + packages, environment)
    command = _sync_command(uv, path, spec.lock)
    log.run(command + [option for name in packages for option in ("--reinstall-package", name)], environment)
    _compile(spec, command, path, environment, log)


def import_tensorflow(spec: EnvironmentSpec, path: str, log: BuildLog, *, timeout: float) -> None:
    """Import TensorFlow from a build that is not live yet.

    Metadata cannot promise this: tensorflow 2.8.0 with an unpinned protobuf installs, passes `pip check`, and fails
    here.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment.pop("LD_PRELOAD", None)
    environment.update(LC_ALL="C.UTF-8", TF_CPP_MIN_LOG_LEVEL="2")
    program = "import tensorflow; print('TensorFlow', tensorflow.__version__)"
    try:
        log.run([os.path.join(path, "bin", "python"), "-I", "-c", program], environment, timeout=timeout)
    except BuildError as error:
        raise BuildError(
            f"{spec.name} was built, but `import tensorflow` fails in it: {error.details.get('reason', error.message)} "
            "The build was removed and the live environment is unchanged. The usual cause is a version in "
            "tensorflow_requirements that is incompatible with the release.",
            stderr=error.details["stderr"],
        ) from error
