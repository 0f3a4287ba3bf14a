"""Environments: build beside the live one, check, switch by one rename, roll back, remove.

`changes.py` says what has to be done; here it is done, under the lock of the environment. On disk (see
docs/architecture.md, "On a node"): a build is a whole venv at its final path, complete once `build.json` is in it; the
environment is a symbolic link to one build. Nothing but the link ever changes under a running program.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from typing import Any, Callable, Container, ContextManager, Mapping

from ..errors import BuildError, BusyError, StackError, UnwritableError
from ..io.files import sync_file_system
from ..io.flock import exclusive_lock
from ..io.processes import name_processes, processes_using
from ..io.reading import read_json, read_whole
from ..io.space import why_full
from ..io.writing import sync_directory, write_json
from ..records.additions import outside_entries
from ..records.build import BUILD_RECORD, RECORD_BYTES, find_misfits
from ..records.environment import EnvironmentSpec
from ..records.lockfile import LOCK_BYTES, parse_lock
from . import images
from .bookkeeping import leftovers
from .builds import (
    Build,
    build_log,
    builds_of,
    check_log,
    environment_names,
    live_build,
    remove_build,
    remove_directory,
)
from .changes import (
    EnvironmentOutcome,
    listed_environments,
    not_writable,
    plan_absent,
    plan_present,
    superfluous_builds,
)
from .damage import compare_build, describe_frame, describe_records
from .going_back import plan_previous
from .installing import BuildLog, Installer, compare, import_tensorflow, install, site_packages_of
from .interpreter import find_fault
from .links import hide_gpus, keep_compiled_kernels, link_compiler, link_libraries, point_to_compiler
from .own_pythons import check_python
from .root import PLACE_SETTING, check_cache, check_root
from .scripts import name_environment
from .shared_packages import Linked, keep_packages
from .shared_store import find_store


def apply_present(
    spec: EnvironmentSpec,
    *,
    installer: Callable[[], Installer],
    keep: int,
    lock_timeout: float,
    hashes: bool = False,
    drop_additions: bool = False,
    import_timeout: float = 300,
) -> EnvironmentOutcome:
    """Make the environment present. `installer` is called only when something has to be installed."""
    outcome = plan_present(spec, keep=keep, hashes=hashes, drop_additions=drop_additions)
    if outcome.action == "keep":
        if leftovers(spec.root, spec.name):
            # A run that was killed while it removed old builds. One that builds at this moment is left alone.
            with contextlib.suppress(BusyError, UnwritableError):
                with _locked(spec.root, spec.name):
                    _sweep(spec.root, spec.name)
        return outcome
    _make_root(spec.root)
    with _locked(spec.root, spec.name, wait=lock_timeout):
        # Another run may have done it while this one waited.
        outcome = plan_present(spec, keep=keep, hashes=hashes, drop_additions=drop_additions)
        if outcome.action == "keep":
            return outcome
        seconds: dict[str, float] = {}
        _sweep(spec.root, spec.name)
        if outcome.action == "switch":
            build = Build(os.path.join(spec.root, ".builds", str(outcome.build)), None)
        else:
            # What was wrong with them may be wrong with what the store of shared packages has, too.
            distrusted = {str(damage.package) for damage in outcome.damage}
            build = _build(spec, installer, distrusted, import_timeout, seconds)
        _switch(spec.root, spec.name, build.name)
        additions = None if drop_additions else outcome.additions
        removed, kept = superfluous_builds(spec, build.name, keep, additions, before=outcome.before)
        for superfluous in removed:
            remove_build(superfluous)
    return replace(
        outcome,
        build=build.name,
        removed_builds=tuple(superfluous.name for superfluous in removed),
        kept_builds=tuple(superfluous.name for superfluous in kept),
        seconds=seconds,
    )


def apply_previous(root: str, name: str | None = None, *, lock_timeout: float) -> EnvironmentOutcome:
    """Roll back: switch the environment that was in use before, or the named one, to its build of then."""
    target = str(plan_previous(root, name).target)
    with _locked(root, target, wait=lock_timeout):
        # Another run may have changed what was in use while this one waited.
        outcome = plan_previous(root, name)
        if outcome.target != target:
            raise BusyError(
                f"Another run changed what is in use below {root}; nothing was rolled back. Run again to go back from "
                "there."
            )
        live = live_build(root, target)
        if live is None or live.name != outcome.build:
            _switch(root, target, str(outcome.build))
    return outcome


def apply_absent(root: str, name: str, *, lock_timeout: float) -> EnvironmentOutcome:
    outcome = plan_absent(root, name)
    if outcome.action == "keep":
        return outcome
    with _locked(root, name, wait=lock_timeout):
        outcome = plan_absent(root, name)
        builds = builds_of(root, name)
        users = processes_using([os.path.join(root, name), *(build.path for build in builds)])
        if users:
            raise BuildError(
                f"{os.path.join(root, name)} is in use by {name_processes(users)}; nothing was removed. "
                "End these processes and run again.",
                processes=users,
            )
        # The link goes first: a run killed after it leaves unused directories, never a broken environment.
        if os.path.islink(os.path.join(root, name)):
            os.unlink(os.path.join(root, name))
        for build in builds:
            remove_build(build)
        for log in (build_log(root, name), check_log(root, name)):
            if os.path.lexists(log):
                os.unlink(log)
    return outcome


def lock_in_use(root: str, name: str) -> str:
    """The lock that the environment in use was built from, as it lies in its build."""
    live = live_build(root, name)
    if live is None or live.record is None:
        raise BuildError(f"There is no environment {name} in {root}: {listed_environments(environment_names(root))}.")
    path = os.path.join(live.path, "lock.txt")
    try:
        text = read_whole(path, LOCK_BYTES, follow=False).decode("utf-8")
        if parse_lock(text, path=path).sha256 == live.record["lock_sha256"]:
            return text
        found = "is not the one from which it was built"
    except (OSError, ValueError, StackError):
        found = "cannot be read as a lock"
    raise BuildError(f"{path} {found}. Set tensorflow_version, and tensorflow_requirements if a file was applied.")


def _locked(root: str, name: str, *, wait: float = 0) -> ContextManager[None]:
    return exclusive_lock(
        os.path.join(root, ".locks", name),
        what=os.path.join(root, name),
        wait=wait,
        wait_setting="raise tensorflow_venv_lock_timeout",
        place_setting=PLACE_SETTING,
    )


def _make_root(root: str) -> None:
    for path in (root, os.path.join(root, ".builds")):
        try:
            os.makedirs(path, mode=0o755, exist_ok=True)
        except OSError as error:
            raise not_writable(root, str(error.strerror)) from error
    check_root(root)


def _build(
    spec: EnvironmentSpec,
    installer: Callable[[], Installer],
    distrusted: Container[str],
    import_timeout: float,
    seconds: dict[str, float],
) -> Build:
    """A complete new build beside the live one; on any failure it is removed again."""
    number = max([build.number for build in builds_of(spec.root, spec.name)] or [0]) + 1
    path = os.path.join(spec.root, ".builds", f"{spec.name}-{spec.digest[:12]}-{number}")
    with BuildLog(build_log(spec.root, spec.name)) as log:
        try:
            log.say(f"Building {os.path.basename(path)}")
            _check_interpreter(spec)
            if spec.image:
                return _mount(spec, spec.image, path, log, import_timeout, seconds)
            return _fill(spec, installer(), path, log, distrusted, import_timeout, seconds)
        except BaseException as error:
            full = why_full(spec.root, f"{error} {getattr(error, 'details', '')}")
            with contextlib.suppress(OSError, StackError):
                remove_directory(path, ignore_errors=True)
            if full:
                message = f"{spec.name} was not built. {full} The environment in use is unchanged."
                raise BuildError(message, **getattr(error, "details", {})) from error
            raise


def _fill(
    spec: EnvironmentSpec,
    installer: Installer,
    path: str,
    log: BuildLog,
    distrusted: Container[str],
    import_timeout: float,
    seconds: dict[str, float],
) -> Build:
    check_cache(spec.root)
    os.mkdir(path, 0o755)
    started = time.monotonic()
    linked = install(spec, installer, path, log, distrusted)
    site_packages = site_packages_of(spec.lock)
    links = {
        **link_libraries(path, site_packages, spec.library_directories),
        **link_compiler(path, site_packages, spec.cuda_prefixes),
    }
    point_to_compiler(path, site_packages, spec.release)
    if spec.flavour == "cuda":
        keep_compiled_kernels(path, site_packages)
    if spec.visible_gpus is not None:
        hide_gpus(path, site_packages, spec.visible_gpus)

    def describe() -> Build:
        # Each time: what was installed again has scripts of its own.
        name_environment(path, site_packages, spec.name)
        return _describe(spec, path, site_packages, links, linked)

    build = compare(spec, installer, path, log, describe, linked)
    seconds["install"] = round(time.monotonic() - started, 3)
    _import(spec, path, log, import_timeout, seconds)
    # Without this a power cut after the rename could leave a live build with empty files.
    log.say("Writing to the disk")
    sync_file_system(path)
    if installer.uv and len(linked) < len(spec.lock.packages):
        _share(spec, installer, build, linked, seconds)
    write_json(os.path.join(path, BUILD_RECORD), build.record)
    log.say("Switching to the new build")
    return build


def _check_interpreter(spec: EnvironmentSpec) -> None:
    check_python(spec.root, spec.python)
    fault = find_fault(spec.python, spec.lock.python)
    if fault:
        raise BuildError(f"The interpreter {spec.python} {fault}. Set tensorflow_python to another one.")


def _import(spec: EnvironmentSpec, path: str, log: BuildLog, import_timeout: float, seconds: dict[str, float]) -> None:
    log.say("Importing TensorFlow for the first time")
    started = time.monotonic()
    import_tensorflow(spec, path, log, timeout=import_timeout)
    seconds["import"] = round(time.monotonic() - started, 3)


def _mount(
    spec: EnvironmentSpec,
    image: dict[str, Any],
    path: str,
    log: BuildLog,
    import_timeout: float,
    seconds: dict[str, float],
) -> Build:
    """The image of the environment, mounted and proven as a build is."""
    log.say(f"Fetching and mounting {image['source']}")
    started = time.monotonic()
    os.mkdir(path, 0o755)
    images.mount(spec.root, path, image)
    seconds["mount"] = round(time.monotonic() - started, 3)
    record = read_json(os.path.join(path, BUILD_RECORD), RECORD_BYTES, follow=False)
    if find_misfits(record) or (record["name"], record["digest"]) != (spec.name, spec.digest):
        raise BuildError(f"The image {image['source']} is not of the planned {spec.name}. Pack it again (make image).")
    damage = compare_build(Build(path, record)).damage
    if damage:
        raise BuildError(
            f"{spec.name} does not work here from the image {image['source']}: {damage[0].text}. The environment in "
            "use is unchanged."
        )
    _import(spec, path, log, import_timeout, seconds)
    images.complete(path)
    log.say("Switching to the new build")
    return Build(path, record)


def _share(
    spec: EnvironmentSpec, installer: Installer, build: Build, linked: Container[str], seconds: dict[str, float]
) -> None:
    """Let the next builds link what this one installed: it is compared with its wheels, imported, and on the disk."""
    started = time.monotonic()
    store = find_store(installer.cache, build.path)
    if store and build.record:
        loose = build.record.get("unlisted") or {}
        keep_packages(store, spec, build.path, build.record["site_packages"], without=linked, loose=loose)
    seconds["install"] = round(seconds["install"] + time.monotonic() - started, 3)


def _describe(
    spec: EnvironmentSpec, path: str, site_packages: str, links: dict[str, str], linked: Mapping[str, Linked]
) -> Build:
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
        "added": list(spec.lock.added),
        "site_packages": site_packages,
        "links": links,
        # Not read by an earlier version of this toolkit, and absent from its records.
        **({"visible_gpus": spec.visible_gpus} if spec.visible_gpus is not None else {}),
        "frame": describe_frame(path),
        "top_level": sorted(os.listdir(os.path.join(path, site_packages))),
        "outside": sorted([*outside_entries(path), BUILD_RECORD]),
        **describe_records(path, site_packages, spec.lock.packages, linked),
    }
    return Build(path, record)


def _switch(root: str, name: str, build: str) -> None:
    temporary = os.path.join(root, ".builds", f".{name}.link")
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(os.path.join(".builds", build), temporary)
    os.replace(temporary, os.path.join(root, name))
    sync_directory(root)


def _sweep(root: str, name: str) -> None:
    """Remove what killed runs left behind; the caller holds the lock, so nobody is building."""
    for build in leftovers(root, name):
        remove_directory(build.path)
