"""A Python interpreter at a planned path: check the one that is there, or fetch a build with uv."""

from __future__ import annotations

import os
from typing import Iterable

from ..errors import BuildError, NotStartedError
from ..io.commands import run, run_into
from ..io.downloads import as_url
from ..io.flock import exclusive_lock
from ..io.uv import uv_environment
from .root import PLACE_SETTING

_START_SECONDS = 10.0


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
) -> None:
    """Fetch a build of Python `minor` below `<root>/.pythons`, so that `path` is one.

    `places` are the hosts that uv tries by itself. Raises BuildError saying from where it was tried and what else would
    do.
    """
    environment = uv_environment(cache=os.path.join(root, ".cache", "uv"))
    environment["UV_PYTHON_DOWNLOADS"] = "manual"
    # Not as options, which everybody reads in the list of processes.
    if mirror:
        environment["UV_PYTHON_INSTALL_MIRROR"] = as_url(mirror)
    if downloads:
        environment["UV_PYTHON_DOWNLOADS_JSON_URL"] = downloads
    directory = os.path.join(root, ".pythons")
    command = [uv, "python", "install", "--no-bin", "--install-dir", directory, minor]
    lock = os.path.join(root, ".locks", "pythons")
    with exclusive_lock(lock, what=directory, wait=600, place_setting=PLACE_SETTING):
        os.makedirs(os.path.dirname(log), mode=0o755, exist_ok=True)
        with open(log, "wb") as stream:
            # As a build says its phases.
            stream.write(f"== Fetching Python {minor}\n".encode())
            stream.flush()
            code = run_into(command, stream, stream, env=environment)
    if code == 0 and runs_as(path, minor):
        return
    with open(log, encoding="utf-8", errors="replace") as stream_text:
        said = [line.strip() for line in stream_text if line.strip()]
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
