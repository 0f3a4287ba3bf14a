"""Runs of nvidia_redist killed by SIGKILL: the old tree works each time, and the next run completes."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.archives import redist
from ansible.module_utils.tensorflow_stack.archives.redist import WantedTree

from tests.archives import Shelf

# Where the run dies: before the call of a function, the how many-th one, and what the next run then does.
POINTS = {
    "before_the_first_archive": ("Source.save", 1, "replace"),
    "in_the_middle_of_an_archive": ("downloads._write", 2, "replace"),
    "between_two_archives": ("Source.save", 2, "replace"),
    "before_unpacking": ("Tree.unpack", 1, "replace"),
    "in_the_middle_of_unpacking": ("Tree.lay_link", 1, "replace"),
    "between_two_unpacked": ("Tree.unpack", 2, "replace"),
    "unpacked_and_not_on_disk": ("redist.sync_file_system", 1, "replace"),
    "complete_and_not_in_place": ("redist.put_in_place", 1, "replace"),
    "in_place_and_old_tree_beside": ("os.fsync", 2, "record"),
    "before_sweeping": ("redist._sweep", 2, "record"),
    "before_the_record": ("redist._write_record", 1, "record"),
    "record_written_and_not_in_place": ("os.replace", 2, "record"),
}

CHILD = """
import os, pickle, signal, sys
import ansible.module_utils
ansible.module_utils.__path__.append(sys.argv[1])
from ansible.module_utils.tensorflow_stack.archives import redist
from ansible.module_utils.tensorflow_stack.io import downloads

wish, url, records, function, number, absent = pickle.load(sys.stdin.buffer)
owner, name = function.split(".")
owners = {"os": os, "redist": redist, "downloads": downloads, "Source": downloads.Source, "Tree": redist.Tree}
owner = owners[owner]
original = getattr(owner, name)
downloads._BLOCK = 1 << 14
calls = 0

def killed(*arguments, **options):
    global calls
    calls += 1
    if calls == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)

setattr(owner, name, killed)
if absent:
    redist.apply_absent("cuda", wish.prefix, lock_timeout=0, records=records)
else:
    redist.apply_present(wish, source=redist.open_source(url), lock_timeout=0, records=records)
"""


class Node:
    def __init__(self, tmp_path: Path) -> None:
        self.parent = tmp_path / "opt"
        self.shelf = Shelf(tmp_path / "shelf")
        self.records = str(tmp_path / "etc")
        self.old = self.shelf.cuda(self.parent / "cuda-11.2", "11.2.72", os.urandom(100_000))
        self.new = self.shelf.cuda(self.parent / "cuda-11.2", "11.2.152", os.urandom(100_000))

    def apply(self, wish: WantedTree) -> str:
        source = redist.open_source(self.shelf.url)
        return redist.apply_present(wish, source=source, lock_timeout=30, records=self.records).action

    def drift_of(self, wish: WantedTree) -> list[str]:
        tree = redist.read_tree(wish.prefix)
        assert tree is not None
        assert tree["identity"] == wish.identity
        return redist.find_drift(wish.prefix, tree)

    def kill(self, wish: WantedTree, function: str, number: int, *, absent: bool = False) -> None:
        child = subprocess.run(
            [sys.executable, "-c", CHILD, str(Path(redist.__file__).parents[2])],
            input=pickle.dumps((wish, self.shelf.url, self.records, function, number, absent)),
            capture_output=True,
        )
        assert child.returncode == -signal.SIGKILL, child.stderr.decode()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.parametrize(("function", "number", "action"), POINTS.values(), ids=POINTS)
def test_killed_while_replacing(node: Node, function: str, number: int, action: str) -> None:
    node.apply(node.old)
    node.kill(node.new, function, number)
    assert node.drift_of(node.new if action == "record" else node.old) == [], "a whole tree is there"
    assert redist.plan_present(node.new, records=node.records).action == action
    assert node.apply(node.new) == action
    assert node.drift_of(node.new) == []
    assert sorted(os.listdir(node.parent)) == [".locks", "cuda-11.2"], "no leftovers"
    assert node.apply(node.new) == "keep"
    assert os.listdir(node.records) == ["cuda.json"]


@pytest.mark.parametrize(("function", "number", "action"), POINTS.values(), ids=POINTS)
def test_killed_while_installing(node: Node, function: str, number: int, action: str) -> None:
    node.kill(node.new, function, number)
    planned = "install" if action == "replace" else action
    assert os.path.exists(node.new.prefix) == (planned == "record"), "a whole tree or none"
    assert node.apply(node.new) == planned
    assert node.drift_of(node.new) == []
    assert sorted(os.listdir(node.parent)) == [".locks", "cuda-11.2"]


@pytest.mark.parametrize(("function", "number"), [("os.rename", 1), ("redist._sweep", 2), ("os.rmdir", 1)])
def test_killed_while_removing(node: Node, function: str, number: int) -> None:
    node.apply(node.new)
    node.kill(node.new, function, number, absent=True)
    if os.path.exists(node.new.prefix):
        assert node.drift_of(node.new) == [], "the whole tree is there"
    removed = redist.apply_absent("cuda", node.new.prefix, lock_timeout=0, records=node.records)
    assert removed.action == "remove"
    assert os.listdir(node.parent) == [".locks"]
    assert os.listdir(node.records) == []
    assert node.apply(node.new) == "install"
