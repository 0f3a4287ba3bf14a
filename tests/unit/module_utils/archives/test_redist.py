from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.archives import redist
from ansible.module_utils.tensorflow_stack.archives.redist import TreeOutcome, WantedTree
from ansible.module_utils.tensorflow_stack.errors import BuildError, BusyError, StackError
from ansible.module_utils.tensorflow_stack.io import downloads
from ansible.module_utils.tensorflow_stack.io.flock import exclusive_lock

from tests.archives import HOSTILE, Shelf, archive_of, pack


class Node:
    def __init__(self, tmp_path: Path) -> None:
        self.parent = tmp_path / "opt" / "nvidia"
        self.parent.parent.mkdir()
        self.records = tmp_path / "etc"
        self.shelf = Shelf(tmp_path / "shelf")

    def wish(self, cudart: str = "11.2.152", data: bytes = b"\x7fELF") -> WantedTree:
        return self.shelf.cuda(self.parent / f"cuda-{cudart.rpartition('.')[0]}", cudart, data)

    def plan(self, wish: WantedTree) -> TreeOutcome:
        return redist.plan_present(wish, records=str(self.records))

    def apply(self, wish: WantedTree, **options: Any) -> TreeOutcome:
        source = redist.open_source(self.shelf.url)
        return redist.apply_present(wish, source=source, lock_timeout=0, records=str(self.records), **options)

    def remove(self, wish: WantedTree, **options: Any) -> TreeOutcome:
        options = {"records": str(self.records), **options}
        planned = redist.plan_absent("cuda", wish.prefix, **options)
        assert redist.apply_absent("cuda", wish.prefix, lock_timeout=0, **options) == planned
        return planned

    @property
    def record(self) -> Any:
        path = self.records / "cuda.json"
        return json.loads(path.read_text()) if path.exists() else None

    def beside(self) -> list[str]:
        return sorted(os.listdir(self.parent)) if self.parent.exists() else []


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setattr(downloads.time, "sleep", lambda seconds: None)
    return Node(tmp_path)


def test_four_runs(node: Node) -> None:
    wish = node.wish()
    planned = node.plan(wish)
    assert (planned.action, planned.changed) == ("install", True)
    assert node.beside() == []
    assert not node.records.exists()
    assert node.apply(wish) == planned
    assert node.apply(wish) == node.plan(wish)
    assert (node.plan(wish).action, node.plan(wish).changed) == ("keep", False)
    assert planned.before == ()
    assert planned.after == (f"cuda 11.2 in {wish.prefix}", "cuda_cudart 11.2.152", "libcublas 11.4.1.1043")
    assert planned.bytes_to_fetch == sum(archive.bytes or 0 for archive in wish.archives)


def test_what_is_laid_and_recorded(node: Node) -> None:
    wish = node.wish()
    node.apply(wish)
    assert Path(wish.prefix, "lib/libcudart.so").read_bytes() == b"\x7fELF"
    assert node.beside() == [".locks", "cuda-11.2"]
    assert oct(os.stat(wish.prefix).st_mode & 0o7777) == "0o755"
    assert node.record == {
        "schema": 1,
        "component": "cuda",
        "source": "redist",
        "version": "11.2",
        "prefix": wish.prefix,
        "archives": [archive.row for archive in wish.archives],
    }
    tree = json.loads(Path(wish.prefix, ".tensorflow-gpu-stack.json").read_text())
    assert tree["files"]["lib/libcudart.so.11.2.152"] == 4
    assert tree["archives"] == node.record["archives"]


def test_two_versions_side_by_side(node: Node) -> None:
    old, new = node.wish(), node.wish("11.8.89")
    node.apply(old)
    before = os.stat(old.prefix).st_ino
    node.apply(new)
    assert node.beside() == [".locks", "cuda-11.2", "cuda-11.8"]
    assert os.stat(old.prefix).st_ino == before
    assert node.record["prefix"] == new.prefix
    # Back to the old one: it is there as it was, only the record says what is meant now.
    again = node.apply(old)
    assert (again.action, again.before[0], again.after[0]) == (
        "record",
        f"cuda 11.8 in {new.prefix}",
        f"cuda 11.2 in {old.prefix}",
    )
    assert node.record["prefix"] == old.prefix
    assert node.plan(old).action == "keep"


def test_other_archives_at_the_same_prefix(node: Node) -> None:
    old = node.wish("11.2.72")
    node.apply(old)
    new = replace(node.wish("11.2.152"), version="11.2.2")
    outcome = node.apply(new)
    assert outcome.action == "replace"
    assert outcome.before[0] == f"cuda 11.2 in {old.prefix}"
    assert sorted(name for name in os.listdir(Path(new.prefix, "lib")) if "cudart" in name) == [
        "libcudart.so",
        "libcudart.so.11",
        "libcudart.so.11.2.152",
    ]


def damage_missing(prefix: Path) -> None:
    (prefix / "lib/libcublas.so.11.4.1.1043").unlink()


def damage_size(prefix: Path) -> None:
    (prefix / "include/cudart.h").write_text("changed")


def damage_link(prefix: Path) -> None:
    (prefix / "lib/libcudart.so.11").unlink()
    (prefix / "lib/libcudart.so.11").symlink_to("/tmp/other")


def damage_added(prefix: Path) -> None:
    (prefix / "lib/libcudnn.so.8").write_text("copied here by somebody")


def damage_record(prefix: Path) -> None:
    (prefix / ".tensorflow-gpu-stack.json").unlink()


def damage_directory(prefix: Path) -> None:
    os.rename(prefix / "lib", prefix.parent / "lib")
    (prefix / "lib").symlink_to("../lib")


@pytest.mark.parametrize(
    ("damage", "drift"),
    [
        (damage_missing, "lib/libcublas.so.11.4.1.1043 is missing"),
        (damage_size, "include/cudart.h is a file of 7 bytes, not a file of 12 bytes"),
        (damage_link, "lib/libcudart.so.11 is a link to /tmp/other, not a link to libcudart.so.11.2.152"),
        (damage_added, "lib/libcudnn.so.8 was added"),
        (damage_record, ".tensorflow-gpu-stack.json is missing or cannot be read"),
        (damage_directory, "lib was added"),
    ],
)
def test_drift_is_repaired(node: Node, damage: Any, drift: str) -> None:
    wish = node.wish()
    node.apply(wish)
    tree = json.loads(Path(wish.prefix, ".tensorflow-gpu-stack.json").read_text())
    damage(Path(wish.prefix))
    planned = node.plan(wish)
    assert planned.action == "repair"
    assert drift in planned.drift
    assert node.apply(wish) == planned
    assert node.plan(wish).action == "keep"
    assert redist.find_drift(wish.prefix, tree) == []
    assert ".cuda-11.2.new" not in node.beside()


def test_bytecode_is_no_drift(node: Node) -> None:
    wish = node.wish()
    node.apply(wish)
    Path(wish.prefix, "share/__pycache__").mkdir()
    Path(wish.prefix, "share/__pycache__/x.pyc").write_text("x")
    assert node.plan(wish).action == "keep"


def test_lost_record_is_written_again(node: Node) -> None:
    wish = node.wish()
    node.apply(wish)
    (node.records / "cuda.json").unlink()
    assert node.plan(wish) == TreeOutcome("record", (), node.plan(wish).after)
    node.apply(wish)
    assert node.record["version"] == "11.2"


def test_repair_never_leaves_no_tree(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is open stays readable by its path at any moment."""
    wish = node.wish()
    node.apply(wish)
    damage_size(Path(wish.prefix))
    watcher = subprocess.Popen(
        [sys.executable, "-c", "import os, sys\nprint(flush=True)\nwhile True: os.stat(sys.argv[1])",
         os.path.join(wish.prefix, "lib/libcudart.so.11.2.152")],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert watcher.stdout is not None
    watcher.stdout.readline()
    for _ in range(20):
        node.apply(wish)
        damage_size(Path(wish.prefix))
    gone = watcher.poll()
    watcher.kill()
    watcher.wait()
    watcher.stdout.close()
    assert gone is None, "the tree was away for a moment"


def test_file_system_that_cannot_exchange(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    class Libc:
        def __init__(self, *arguments: Any, **options: Any) -> None: ...

        def renameat2(self, *arguments: Any) -> int:
            ctypes.set_errno(errno.EINVAL)
            return -1

        def syncfs(self, descriptor: int) -> int:
            return 0

    wish = node.wish()
    node.apply(wish)
    damage_missing(Path(wish.prefix))
    monkeypatch.setattr(ctypes, "CDLL", Libc)
    assert node.apply(wish).action == "repair"
    assert node.plan(wish).action == "keep"
    assert node.beside() == [".locks", "cuda-11.2"]


def lower_layer(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As overlayfs has it without redirect_dir: a directory of a lower layer is not moved, before it is a new one."""
    rename = os.rename

    class Libc:
        def __init__(self, *arguments: Any, **options: Any) -> None: ...

        def renameat2(self, *arguments: Any) -> int:
            ctypes.set_errno(errno.EXDEV)
            return -1

        def syncfs(self, descriptor: int) -> int:
            return 0

    def refuse(source: str, target: str) -> None:
        if prefix in (source, target) and os.path.exists(prefix):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source, None, target)
        rename(source, target)

    monkeypatch.setattr(ctypes, "CDLL", Libc)
    monkeypatch.setattr(os, "rename", refuse)


def test_tree_of_a_lower_layer_is_repaired_and_removed(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    wish = node.wish()
    node.apply(wish)
    damage_missing(Path(wish.prefix))
    lower_layer(wish.prefix, monkeypatch)
    assert node.apply(wish).action == "repair"
    assert node.plan(wish).action == "keep" and node.beside() == [".locks", "cuda-11.2"]
    assert node.remove(wish).action == "remove"
    assert node.beside() == [".locks"] and node.record is None


def test_killed_while_a_tree_of_a_lower_layer_goes(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    wish = node.wish()
    node.apply(wish)
    damage_missing(Path(wish.prefix))
    (node.records / "cuda.json").unlink()  # so that the tree's own record is what says whose it is
    rmtree = shutil.rmtree

    def killed(path: str) -> None:
        if path.startswith(wish.prefix):
            raise KeyboardInterrupt
        rmtree(path)

    with monkeypatch.context() as patched:
        lower_layer(wish.prefix, patched)
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            node.apply(wish)
    assert node.plan(wish).action == "repair"
    assert node.apply(wish).action == "repair" and node.plan(wish).action == "keep"


# --- Refusals -----------------------------------------------------------------------------------------


def tampered(wish: WantedTree, **changes: Any) -> WantedTree:
    return replace(wish, archives=(replace(wish.archives[0], **changes), *wish.archives[1:]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sha256": "0" * 64}, "is not the pinned file: expected "),
        ({"bytes": 100}, "expected 100 bytes with sha256"),
        ({"bytes": 10_000_000, "sha256": "0" * 64}, "expected 10000000 bytes"),
        ({"bytes": None, "sha256": "0" * 64}, "expected sha256 0000"),
        (
            {"relative_path": "nowhere.tar.xz"},
            "nowhere.tar.xz cannot be fetched: the server of NVIDIA's archives file://",
        ),
    ],
    ids=["hash", "more", "less", "unknown_size", "missing"],
)
def test_refused_download(node: Node, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(StackError) as raised:
        node.apply(tampered(node.wish(), **changes))
    assert said in raised.value.message
    assert node.beside() == [".locks"], "nothing of it was kept"
    assert node.record is None


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive_leaves_the_old_tree(node: Node, tmp_path: Path, name: str) -> None:
    old = node.wish()
    node.apply(old)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    outside = tmp_path / "outside"
    path = pack(node.shelf.path / "hostile.tar.xz", HOSTILE[name][0](outside))
    archives = (*old.archives, archive_of(path, node.shelf.path, "hostile"))
    with pytest.raises(StackError) as raised:
        node.apply(replace(old, archives=archives))
    assert raised.value.message.startswith("hostile.tar.xz ")
    path.unlink()
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    assert node.plan(old).action == "keep"


def test_no_room(node: Node) -> None:
    wish = tampered(node.wish(), bytes=1 << 50)
    for run in (node.plan, node.apply):
        with pytest.raises(BuildError, match=r"cuda 11\.2 needs about .* MiB below .*/opt, .* MiB are free"):
            run(wish)
    assert node.beside() == []


def test_disk_that_fills_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    old = node.wish()
    node.apply(old)
    damage_missing(Path(old.prefix))

    def full(tree: Any, path: str, *arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(redist.Tree, "lay_file", full)
    with pytest.raises(BuildError, match="was not finished: .*No space left on device.* The previous files are"):
        node.apply(old)
    assert node.beside() == [".locks", "cuda-11.2"]
    assert Path(old.prefix, "lib/libcudart.so").exists()


def test_tree_of_somebody_else(node: Node) -> None:
    wish = node.wish()
    Path(wish.prefix).mkdir(parents=True)
    Path(wish.prefix, "version.txt").write_text("CUDA Version 11.2.152")
    for run in (node.plan, node.apply):
        with pytest.raises(BuildError, match="was not made by this toolkit .* set cuda_source to found"):
            run(wish)
    with pytest.raises(BuildError, match="was not made by this toolkit .*, so it is not removed"):
        node.remove(wish)
    assert os.listdir(wish.prefix) == ["version.txt"]


@pytest.mark.parametrize("kind", ["link", "file", "relative", "unclean", "top"])
def test_refused_prefix(node: Node, kind: str, tmp_path: Path) -> None:
    wish = node.wish()
    node.parent.mkdir()
    if kind == "link":
        Path(wish.prefix).symlink_to(tmp_path)
    elif kind == "file":
        Path(wish.prefix).write_text("")
    else:
        prefix = {"relative": "opt/cuda", "unclean": f"{wish.prefix}/../cuda", "top": "/cuda"}[kind]
        wish = replace(wish, prefix=prefix)
    said = "set an absolute path" if kind in ("relative", "unclean", "top") else "is a link or a file"
    for run in (node.plan, node.remove):
        with pytest.raises(BuildError, match=said):
            run(wish)


def test_place_that_others_may_write(node: Node) -> None:
    node.parent.mkdir()
    node.parent.chmod(0o777)
    with pytest.raises(BuildError, match=r"could be changed by others \(owner \d+, mode 0777\)"):
        node.plan(node.wish())


def test_two_runs_at_once(node: Node) -> None:
    wish = node.wish()
    node.parent.mkdir()
    with exclusive_lock(str(node.parent / ".locks" / "cuda-11.2"), what="x"):
        with pytest.raises(BusyError, match="package_lock_timeout"):
            node.apply(wish)
    assert node.apply(wish).action == "install"


def test_credentials_are_refused() -> None:
    with pytest.raises(StackError, match="nvidia_redist_url contains credentials") as raised:
        redist.open_source("https://me:secret@mirror.example/nvidia")
    assert "secret" not in raised.value.message


# --- Leftovers ----------------------------------------------------------------------------------------


def test_leftovers_are_swept(node: Node) -> None:
    wish = node.wish()
    node.apply(wish)
    leftover = node.parent / ".cuda-11.2.new" / "tree"
    leftover.mkdir(parents=True)
    with exclusive_lock(str(node.parent / ".locks" / "cuda-11.2"), what="x"):
        assert node.apply(wish).action == "keep"
        assert leftover.exists(), "another run is at work"
    assert node.apply(wish).action == "keep"
    assert node.beside() == [".locks", "cuda-11.2"]


# --- Removing -----------------------------------------------------------------------------------------


def bind(root: Path, name: str, target: str) -> None:
    """An environment's build with a link to a library."""
    build = root / ".builds" / f"{name}-0123456789ab-1"
    build.mkdir(parents=True)
    texts = ("name", "release", "flavour", "digest", "build", "lock_sha256", "site_packages")
    record = {**dict.fromkeys(texts, ""), **dict.fromkeys(("packages", "frame", "records"), {}), "top_level": []}
    record.update(python={"minor": "", "path": ""}, cuda=None, cudnn=None, links={"lib/x": target})
    (build / "build.json").write_text(json.dumps(record))


def test_remove(node: Node) -> None:
    other, wish = node.wish("11.8.89"), node.wish()
    node.apply(other)
    node.apply(wish)
    outcome = node.remove(wish)
    assert (outcome.action, outcome.before[0], outcome.after) == ("remove", f"cuda 11.2 in {wish.prefix}", ())
    assert node.beside() == [".locks", "cuda-11.8"]
    assert node.record is None
    assert node.remove(wish).action == "keep"


def test_remove_one_that_is_not_the_recorded_one(node: Node) -> None:
    wish, other = node.wish(), node.wish("11.8.89")
    node.apply(wish)
    node.apply(other)
    node.remove(wish)
    assert node.record["prefix"] == other.prefix


def test_remove_is_refused_while_an_environment_uses_it(node: Node, tmp_path: Path) -> None:
    wish, root = node.wish(), tmp_path / "environments"
    node.apply(wish)
    bind(root, "tensorflow-2.8.0", f"{wish.prefix}/lib/libcudart.so.11")
    bind(root, "tensorflow-2.12.0", f"{wish.prefix}.9/lib/libcudart.so.11")
    with pytest.raises(BuildError, match=r"in use by environment tensorflow-2\.8\.0-0123456789ab-1; nothing was"):
        node.remove(wish, roots=[str(root)])
    assert node.plan(wish).action == "keep"
    assert node.remove(wish, roots=[str(root)], force=True).action == "remove"


def test_remove_is_refused_while_a_process_uses_it(node: Node) -> None:
    wish = node.wish()
    node.apply(wish)
    library = os.path.join(wish.prefix, "lib/libcudart.so.11.2.152")
    program = (
        "import mmap, sys, time\n"
        "with open(sys.argv[1], 'rb') as stream:\n"
        "    mapped = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)\n"
        "print(flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, library], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            with pytest.raises(BuildError, match=f"in use by process {process.pid} \\(python\\); nothing was removed"):
                node.remove(wish)
        finally:
            process.kill()
    assert node.remove(wish).action == "remove"
