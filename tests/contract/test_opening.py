"""What runs on a node opens files by the helpers of `io`: no FIFO, device or link, and no file without an end."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.contract.test_rooms import FILES, ON_NODES, STACK, name_of, room_of

# The helpers themselves, and what opens otherwise. This list only shrinks.
OPENS_ITSELF = {
    "archives/unpacking.py": "writes new files alone, in a tree of its own",
    "check/child/driver.py": "imports nothing of this toolkit; reads what the kernel makes up",
    "check/child/libraries.py": "imports nothing of this toolkit; reads files of its own environment",
    "check/child/main.py": "imports nothing of this toolkit; reads what the kernel makes up",
    "check/log_text.py": "a log that an operator names, bounded, and refused if it is no regular file",
    "environment/installed_files.py": "a directory, to look at files relative to it",
    "io/file_server.py": "the null device",
    "io/files.py": "a descriptor to sync a file system by",
    "io/flock.py": "helper",
    "io/mounts.py": "reads what the kernel makes up",
    "io/processes.py": "reads what the kernel makes up",
    "io/reading.py": "helper",
    "io/received.py": "reads what the kernel makes up",
    "io/sharing.py": "helper",
    "io/trust.py": "helper",
    "io/writing.py": "helper",
    "packages/dpkg_lock.py": "dpkg's lock, which is root's, and what the kernel makes up",
}
_OPENERS = {"open", "os.open", "io.open", "codecs.open", "bz2.open", "gzip.open", "lzma.open", "shutil.copyfile"}
_OPENERS |= {"shutil.copy", "shutil.copy2", "shutil.move", "pathlib.Path"}


def openers(path: Path) -> set[str]:
    calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    return {ast.unparse(call.func) for call in calls} & _OPENERS


def test_only_the_helpers_open_files() -> None:
    on_nodes = [path for path in FILES if room_of(path).partition(".")[0] in ON_NODES]
    found = {name_of(path) for path in on_nodes if openers(path)}
    assert sorted(found - OPENS_ITSELF.keys()) == [], "open it by io/reading.py or io/writing.py"
    assert sorted(OPENS_ITSELF.keys() - found) == [], "take it off the list"


@pytest.mark.parametrize("call", ["open('a')", "os.open('a', 0)", "gzip.open('a')", "shutil.copyfile('a', 'b')"])
def test_the_checker_sees_what_opens(tmp_path: Path, call: str) -> None:
    (tmp_path / "a.py").write_text(call)
    assert openers(tmp_path / "a.py")
    assert STACK.is_dir()
