#!/usr/bin/env python3
"""Build the checkout's .venv with the pinned controller tools, given nothing but Python 3.8 or newer.

Does nothing when .venv is what its lock says. Installs nothing outside of the checkout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from typing import NamedTuple

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOLS = os.path.join(REPOSITORY, ".tools")
REQUIREMENTS = os.path.join(REPOSITORY, "requirements")
UV_TABLE = os.path.join(REPOSITORY, "roles", "tensorflow_release", "files", "tables", "uv.yml")
FETCHED_PYTHON = "3.12"
PROGRESS_SECONDS = 5.0


class Wish(NamedTuple):
    """One environment of tools: its directory, its lock, locks that hold at least as much, its Pythons."""

    directory: str
    lock: str
    wider_locks: tuple[str, ...]
    minors: tuple[str, ...]


CONTROLLER = Wish(".venv", "controller.txt", ("bundle.txt", "test.txt"), ("3.10", "3.11", "3.12", "3.13", "3.14"))
BUNDLE = CONTROLLER._replace(lock="bundle.txt", wider_locks=("test.txt",))
TEST = CONTROLLER._replace(lock="test.txt", wider_locks=())
SITE = CONTROLLER._replace(directory=".venv-site", lock="site.txt", wider_locks=())
COLLECTION = CONTROLLER._replace(directory=".venv-collection", lock="collection.txt", wider_locks=())
GROUPS = {"controller": CONTROLLER, "bundle": BUNDLE, "test": TEST, "site": SITE, "collection": COLLECTION}
# Of the image that execution_environment/ defines; nothing here installs it.
IMAGE_LOCK = "execution_environment.txt"
OLDEST = Wish(".venv-oldest", "oldest.txt", (), ("3.10", "3.11", "3.12"))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--group", choices=list(GROUPS), default="controller", help="what to install")
    parser.add_argument("--bundle", help="URL or directory of a bundle (make bundle) that has the tools")
    parser.add_argument("--lock", action="store_true", help="refresh the locks in requirements/ instead")
    parser.add_argument(
        "--core",
        choices=["newest", "oldest"],
        default="newest",
        help="ansible-core: the newest, or in .venv-oldest the oldest supported with the tools to test it",
    )
    options = parser.parse_args(arguments)
    wish = OLDEST if options.core == "oldest" else GROUPS[options.group]
    if not options.lock and is_built(wish):
        return 0
    if wish.directory == TEST.directory and os.path.exists(os.path.join(REPOSITORY, wish.directory, "bin", "pytest")):
        wish = TEST  # A playbook is no reason to remove the test tools.
    # The checkout's own package, by path. Imported late here and below: nearly every run ends above.
    sys.path.insert(0, os.path.join(REPOSITORY, "module_utils"))
    from tensorflow_stack.errors import StackError
    from tensorflow_stack.io.flock import exclusive_lock

    try:
        lock = os.path.join(TOOLS, ".locks", "bootstrap")
        owner = f"give the checkout to yourself (sudo chown -R $(id -un) {shlex.quote(REPOSITORY)})"
        with exclusive_lock(lock, what=TOOLS, wait=600, place_setting=owner):
            if options.lock:
                refresh_locks()
            elif not is_built(wish):
                build(wish, options.bundle)
    except StackError as error:
        print(f"bootstrap: {error.message}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"bootstrap: the tools cannot be installed into {REPOSITORY}: {error.filename}: {error.strerror}. They "
            "need 200 MB, and a file system that is neither read-only nor mounted noexec. Use a checkout on one.",
            file=sys.stderr,
        )
        return 1
    return 0


def is_built(wish: Wish) -> bool:
    directory = os.path.join(REPOSITORY, wish.directory)
    try:
        with open(os.path.join(directory, "stamp.json"), encoding="utf-8") as stream:
            stamp = json.load(stream)
    except (OSError, ValueError):
        return False
    return stamp in [identity(wish, lock) for lock in (wish.lock, *wish.wider_locks)]


def identity(wish: Wish, lock: str) -> dict[str, str]:
    """What an environment was built from; its scripts name its own path, so that is part of it."""
    directory = os.path.join(REPOSITORY, wish.directory)
    with open(os.path.join(REQUIREMENTS, lock), "rb") as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()
    python = os.path.realpath(os.path.join(directory, "bin", "python"))
    return {"directory": directory, "lock_sha256": digest, "python": python if os.path.isfile(python) else ""}


def build(wish: Wish, bundle: str | None = None) -> None:
    from tensorflow_stack.io.downloads import as_url

    place = None
    if bundle:
        place = as_url(bundle if "://" in bundle else os.path.abspath(os.path.expanduser(bundle))).rstrip("/")
    index = f"{place}/simple" if place else None
    uv = bring_uv(index)
    python = choose_python(wish, uv, f"{place}/python" if place else None)
    directory = os.path.join(REPOSITORY, wish.directory)
    say(f"Installing requirements/{wish.lock} into {wish.directory} with {python}")
    run([uv, "venv", "--quiet", "--clear", "--python", python, directory], index)
    lock = os.path.join(REQUIREMENTS, wish.lock)
    # Bytecode now: where Python may not write it, every start of ansible-playbook would compile all it imports.
    sync = [uv, "pip", "sync", "--quiet", "--require-hashes", "--only-binary", ":all:", "--compile-bytecode"]
    started = time.monotonic()
    run([*sync, "--python", directory, lock], index)
    say(f"Installed the tools in {time.monotonic() - started:.0f} s")
    with open(os.path.join(directory, "stamp.json"), "w", encoding="utf-8") as stream:
        json.dump(identity(wish, wish.lock), stream)


def refresh_locks() -> None:
    """Newest versions into every lock, each for all Pythons; all but the oldest follow the controller's."""
    uv = bring_uv()
    locks = [(wish.lock, wish.minors[0]) for wish in (CONTROLLER, TEST, OLDEST)]
    for lock, minor in [
        *locks,
        *((lock, CONTROLLER.minors[0]) for lock in (BUNDLE.lock, SITE.lock, COLLECTION.lock, IMAGE_LOCK)),
    ]:
        say(f"Locking requirements/{lock}")
        command = [uv, "pip", "compile", "--quiet", "--upgrade", "--universal", "--generate-hashes"]
        command += ["--no-header", "--python-version", minor, "--output-file", lock]
        # A relative name, because it stands in the lock.
        run([*command, lock.replace(".txt", ".in")])


def bring_uv(index: str | None = None) -> str:
    from tensorflow_stack.io.uv import ensure_uv

    return ensure_uv(directory=TOOLS, record=pinned_uv(platform.machine()), index_url=index, report=say)


def run(command: list[str], index: str | None = None) -> None:
    """Run uv in requirements/, its words on stderr; raises StackError when it fails."""
    from tensorflow_stack.errors import StackError
    from tensorflow_stack.io.uv import uv_environment

    environment = uv_environment(cache=os.environ.get("UV_CACHE_DIR"), index_url=index)
    with subprocess.Popen(command, cwd=REQUIREMENTS, env=environment, stdout=sys.stderr) as process:
        try:
            code = wait_for(process)
        except BaseException:
            process.kill()
            raise
    if code:
        raise StackError(
            f"'uv {' '.join(command[1:3])}' ended with {code}; what it said stands above. If the package "
            "index cannot be reached, set UV_DEFAULT_INDEX to one that can, or HTTPS_PROXY to the proxy."
        )


def wait_for(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a program, and every few seconds a line that it is at work."""
    from tensorflow_stack.io.received import Received

    received, started = Received(os.getpid()), time.monotonic()
    due = started + PROGRESS_SECONDS
    while True:
        try:
            return process.wait(1)
        except subprocess.TimeoutExpired:
            count, now = received.count(), time.monotonic()
            if now >= due:
                due = now + PROGRESS_SECONDS
                done = f"{count / 1e6:,.0f} MB received" if count >= 1e6 else "at work"
                say(f"[tools, {now - started:.0f} s] {done}")


def pinned_uv(architecture: str) -> dict[str, str | int]:
    """The row of the uv table for an architecture: a row is a line, and PyYAML is not here yet."""
    from tensorflow_stack.errors import StackError

    with open(UV_TABLE, encoding="utf-8") as stream:
        rows = [dict(re.findall(r'(\w+): "?([^\s",\[{}]+)', line)) for line in stream if line.startswith("  - {")]
    for row in rows:
        if row["architecture"] == architecture:
            return {**row, "bytes": int(row["bytes"])}
    known = ", ".join(row["architecture"] for row in rows)
    raise StackError(
        f"There is no pinned uv for {architecture}, only for {known}: the controller has to be one of these."
    )


def choose_python(wish: Wish, uv: str, mirror: str | None = None) -> str:
    """The newest suitable interpreter of this machine, else one that uv fetches into the checkout."""
    from tensorflow_stack.environment import interpreter
    from tensorflow_stack.errors import BuildError, StackError
    from tensorflow_stack.node import pythons

    # By reading files: a shim of pyenv may start nothing, and the interpreters behind it are not on PATH.
    rows, _ = pythons.find_pythons(environments_root=TOOLS)
    for minor in reversed(wish.minors):
        for row in rows:
            if row["minor"] == minor and interpreter.runs_as(row["path"], minor):
                return str(row["path"])
    found = ", ".join(f"{row['version']} ({row['path']})" for row in rows) or "none"
    say(f"No Python {wish.minors[0]} to {wish.minors[-1]} found ({found}). Fetching {FETCHED_PYTHON}.")
    path = os.path.join(
        TOOLS,
        ".pythons",
        f"cpython-{FETCHED_PYTHON}-linux-{platform.machine()}-gnu",
        "bin",
        f"python{FETCHED_PYTHON}",
    )
    log = os.path.join(TOOLS, "python.log")
    try:
        interpreter.fetch(path, FETCHED_PYTHON, root=TOOLS, uv=uv, mirror=mirror, downloads=None, log=log)
    except BuildError as error:
        raise StackError(
            f"{error.message} Here the mirror is set by the environment variable UV_PYTHON_INSTALL_MIRROR."
        ) from error
    return path


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
