"""Whether bytecode is that of its source: Python runs it without a look at the source's contents.

What the store of shared packages has the sha256 of is compared with that. All else is compiled again, by the build's
own interpreter, and the two are compared as code: the bytes of two compilations of one source may differ.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Container, Iterable, Mapping, Sequence

from ..errors import NotStartedError, StackError
from ..io.commands import run
from ..io.reading import read_whole
from .installed_files import Bytecode
from .root import check_program
from .shared_packages import known_digests
from .shared_store import find_store

_BYTECODE_BYTES = 64 << 20
# For each share of the files; a compilation of all of TensorFlow takes a tenth of that.
_MOST_SECONDS = 120
_CHUNK = 1000
# Run by the interpreter of the build, so in the grammar of Python 3.6. What has another magic number or other times
# than its source is not run by Python, unless its flags say that it is not to be compared with the source.
_COMPARE = """
import importlib.util, json, marshal, os, stat, sys
def read(path):
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW)) as stream:
        return stream.read() if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else b""
behind = 16 if sys.version_info >= (3, 7) else 12
changed = []
for number, (source, name, level) in enumerate(json.load(sys.stdin)):
    try:
        compiled = read(name)
        if compiled[:4] != importlib.util.MAGIC_NUMBER:
            continue
        status = os.stat(source)
        times = [int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF]
        noted = [int.from_bytes(compiled[place:place + 4], "little") for place in (behind - 8, behind - 4)]
        if not any(compiled[4:behind - 8]) and noted != times:
            continue
        text = read(source)
        is_same = marshal.loads(compiled[behind:]) == compile(text, source, "exec", 0, True, level)
    except Exception:
        is_same = False
    if not is_same:
        changed.append(number)
print(json.dumps(changed))
"""


def find_changed_bytecode(build: str, site_packages: str, files: Sequence[Bytecode]) -> list[tuple[str, str]]:
    """Package and text of the first file of each package that is not what its source compiles to."""
    if not files:
        return []
    root = os.path.dirname(os.path.dirname(build))
    store = find_store(os.path.join(root, ".cache", "uv"), build)
    known = known_digests(store, site_packages, {file.package for file in files}) if store else {}
    unknown = [file for file in files if not _has_digest(os.path.join(site_packages, file.name), known.get(file.name))]
    found: dict[str, str] = {}
    for file, text in _compiled_anew(build, site_packages, unknown):
        found.setdefault(file.package, text)
    return sorted(found.items())


def _has_digest(path: str, sha256: str | None) -> bool:
    if sha256 is None:
        return False
    try:
        return hashlib.sha256(read_whole(path, _BYTECODE_BYTES, follow=False)).hexdigest() == sha256
    except OSError:
        return False


def _compiled_anew(build: str, site_packages: str, files: Sequence[Bytecode]) -> Iterable[tuple[Bytecode, str]]:
    python = os.path.join(build, "bin", "python")
    if files:
        try:
            check_program(python)
        except StackError as error:
            return [(file, f"bytecode cannot be compared: {error.message}") for file in files]
    from concurrent.futures import ThreadPoolExecutor  # a run that compares nothing does without the import

    shares = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        results = pool.map(lambda share: _compare(python, site_packages, share), shares)
        return [row for rows in results for row in rows]


def _compare(python: str, site_packages: str, files: Sequence[Bytecode]) -> list[tuple[Bytecode, str]]:
    rows = [
        [os.path.join(site_packages, file.source), os.path.join(site_packages, file.name), _level_of(file.name)]
        for file in files
    ]
    environment = _without(os.environ, ("LD_PRELOAD", "LD_LIBRARY_PATH"))
    command = [python, "-I", "-S", "-B", "-W", "ignore", "-c", _COMPARE]
    try:
        done = run(command, stdin=json.dumps(rows), env=environment, timeout=_MOST_SECONDS, cwd="/", apart=True)
        said = done.errors.strip().splitlines()
        why = said[-1] if said else f"{python} ended with {done.code}"
        numbers = json.loads(done.output) if done.code == 0 else None
    except (NotStartedError, ValueError) as error:
        why, numbers = str(error), None
    if numbers is None:
        return [(file, f"its bytecode cannot be compared with {file.source}: {why}") for file in files]
    return [
        (files[number], f"{files[number].name} is not the bytecode of {files[number].source}") for number in numbers
    ]


def _level_of(name: str) -> int:
    """How far the compiler optimised, as the name of the file says."""
    return int(name[-len("1.pyc")]) if name.endswith((".opt-1.pyc", ".opt-2.pyc")) else 0


def _without(environment: Mapping[str, str], names: Container[str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in names}
