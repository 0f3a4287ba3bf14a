"""A Python interpreter at a planned path: check the one that is there, or fetch a build with uv."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from typing import Container, Iterable, Iterator, Mapping

from ..errors import BuildError, NotStartedError
from ..io.commands import run, run_into
from ..io.downloads import Source, as_url
from ..io.flock import exclusive_lock
from ..io.reading import digest_of, parse_object, read_tail, read_whole
from ..io.trust import private_directory
from ..io.uv import uv_environment
from ..io.writing import open_to_write, write_bytes
from .own_pythons import home_of, note_python
from .root import PLACE_SETTING

_START_SECONDS = 10.0
_LOG_BYTES = 1 << 20
# Of a directory below `.pythons`; uv passes over what begins with a dot.
_ARCHIVES = ".archive-"
_LIST_BYTES = 64 << 20


def find_fault(path: str, minor: str) -> str | None:
    """Why the interpreter at `path` cannot be built on: it does not start, or is another one. None if it can."""
    # What uv asks an interpreter for needs these as well.
    program = "import sys, platform, sysconfig; print('%d.%d' % sys.version_info[:2])"
    try:
        done = run([path, "-I", "-c", program], timeout=_START_SECONDS, apart=True)
    except NotStartedError as error:
        return f"does not start: {error.reason}"
    if done.code is None:
        return f"does not end within {_START_SECONDS:g} s"
    if done.code:
        said = [line.strip() for line in done.errors.splitlines() if line.strip()]
        return f"does not start: {said[-1] if said else f'it ends with {done.code}'}"
    return None if done.output.strip() == minor else f"says that it is Python {done.output.strip()!r}"


def runs_as(path: str, minor: str) -> bool:
    """Is there an interpreter of this minor version at `path` that starts?"""
    program = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        return run([path, "-I", "-c", program], timeout=60, apart=True).output.strip() == minor
    except NotStartedError:
        return False


def fetch(
    path: str,
    minor: str,
    *,
    root: str,
    uv: str,
    mirror: str | None,
    downloads: str | None,
    log: str,
    places: Iterable[str] = (),
    archives: Mapping[str, str] | None = None,
) -> None:
    """Fetch a build of Python `minor` below `<root>/.pythons`, so that `path` is one.

    `places` are the hosts that uv tries by itself; `archives` has by minor the sha256 that an archive must have, if no
    list of `downloads` has its own. Raises BuildError saying from where it was tried and what else would do.
    """
    environment = uv_environment(cache=os.path.join(root, ".cache", "uv"))
    environment["UV_PYTHON_DOWNLOADS"] = "manual"
    pinned = {archives[minor]} if archives and minor in archives else set()
    # Not as an option, which everybody reads in the list of processes.
    if mirror:
        environment["UV_PYTHON_INSTALL_MIRROR"] = as_url(mirror)
    directory = os.path.join(root, ".pythons")
    command = [uv, "python", "install", "--no-bin", "--install-dir", directory, minor]
    lock = os.path.join(root, ".locks", "pythons")
    with contextlib.ExitStack() as held:
        held.enter_context(exclusive_lock(lock, what=directory, wait=600, place_setting=PLACE_SETTING))
        if downloads:
            scratch = held.enter_context(private_directory("tensorflow-pythons-"))
            environment["UV_PYTHON_DOWNLOADS_JSON_URL"], pinned = _checked_list(downloads, minor, scratch)
        os.makedirs(directory, mode=0o755, exist_ok=True)
        received = held.enter_context(_place_for_archives(directory))
        environment["UV_PYTHON_CACHE_DIR"] = received
        os.makedirs(os.path.dirname(log), mode=0o755, exist_ok=True)
        with open_to_write(log) as stream:
            # As a build says its phases.
            stream.write(f"== Fetching Python {minor}\n".encode())
            code = run_into(command, stream, stream, env=environment, cwd="/")
        if code == 0 and os.listdir(received):
            if pinned:
                _check_archive(root, path, received, pinned)
            note_python(root, path)
    if code == 0 and runs_as(path, minor):
        return
    text = read_tail(log, _LOG_BYTES, follow=False).decode("utf-8", "replace")
    said = [line.strip() for line in text.splitlines() if line.strip()]
    tried = mirror or downloads or " or ".join(places) or "the default place of uv"
    raise BuildError(
        f"Python {minor} could not be fetched from {tried}"
        f" ({said[-1] if code else f'no {path} afterwards'}). Install it yourself: python{minor} where it is"
        " looked for (PATH, /usr/bin, /usr/local/bin, pyenv, /opt), or set python_mirror to a mirror of"
        " python-build-standalone.",
        cmd=command,
        rc=code,
        stderr="\n".join(said[-20:]),
    )


@contextlib.contextmanager
def _place_for_archives(directory: str) -> Iterator[str]:
    """For what uv downloads; on the same file system, and what a killed run left there is removed."""
    for name in os.listdir(directory):
        if name.startswith(_ARCHIVES):
            shutil.rmtree(os.path.join(directory, name))
    with tempfile.TemporaryDirectory(prefix=_ARCHIVES, dir=directory) as place:
        yield place


def _check_archive(root: str, path: str, received: str, pinned: Container[str]) -> None:
    """Raises BuildError, and removes what was unpacked, unless the archive has a sha256 that is known here.

    uv has compared it with the list that it has itself; nothing of it was run until now.
    """
    found = {digest_of(os.path.join(received, name)).hex(): name for name in os.listdir(received)}
    other = [f"{name} has {sha256}" for sha256, name in found.items() if sha256 not in pinned]
    if other:
        home = home_of(root, path)
        if home:
            shutil.rmtree(home, ignore_errors=True)
        raise BuildError(
            f"The archive of Python is not the pinned one: {', '.join(other)}. It was removed. Set python_mirror to "
            "another mirror, or install that Python yourself."
        )


def _checked_list(downloads: str, minor: str, scratch: str) -> tuple[str, set[str]]:
    """A copy of the list of builds, in which each of this minor has a sha256, and these. uv checks no others."""
    try:
        if "://" in downloads:
            source = Source(downloads, name="list of Pythons", settings="python_downloads")
            data = source.get(downloads, what="It", limit=_LIST_BYTES).body
        else:
            data = read_whole(downloads, _LIST_BYTES)
        rows = parse_object(data)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BuildError(f"The list of Pythons {downloads} cannot be read: {reason}. Set python_downloads.") from error
    pinned = set()
    for name, row in rows.items():
        is_wanted = isinstance(row, dict) and f"{row.get('major')}.{row.get('minor')}" == minor
        if is_wanted and not re.fullmatch("[0-9a-f]{64}", str(row.get("sha256"))):
            raise BuildError(
                f"The list of Pythons {downloads} has no sha256 of {name}, and only builds with one are installed. Add "
                "it, or unset python_downloads."
            )
        if is_wanted:
            pinned.add(str(row["sha256"]))
    path = os.path.join(scratch, "pythons.json")
    write_bytes(path, data)
    return path, pinned
