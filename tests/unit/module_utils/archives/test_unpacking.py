from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.archives.unpacking import Tree
from ansible.module_utils.tensorflow_stack.errors import StackError

from tests.archives import HOSTILE, Member, file, folder, hard_link, library, link, pack


def unpack(tmp_path: Path, *archives: list[Member], mode: str = "w:xz") -> Tree:
    tree = Tree(str(tmp_path / "tree"))
    (tmp_path / "tree").mkdir()
    for number, members in enumerate(archives):
        path = pack(tmp_path / f"{number}.tar", members, mode)
        tree.unpack(str(path), component=f"part{number}", name=path.name)
    return tree


def names_below(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_components_share_a_tree(tmp_path: Path) -> None:
    tree = unpack(tmp_path, library("cuda_cudart", "cudart", "11.2.152"), library("libcublas", "cublas", "11.4.1"))
    assert tree.files == {
        "include/cublas.h": 12,
        "include/cudart.h": 12,
        "lib/libcublas.so": "-> libcublas.so.11",
        "lib/libcublas.so.11": "-> libcublas.so.11.4.1",
        "lib/libcublas.so.11.4.1": 4,
        "lib/libcudart.so": "-> libcudart.so.11",
        "lib/libcudart.so.11": "-> libcudart.so.11.2.152",
        "lib/libcudart.so.11.2.152": 4,
        "share/doc/part0/LICENSE": 11,
        "share/doc/part1/LICENSE": 9,
    }
    assert (tmp_path / "tree/lib/libcudart.so").read_bytes() == b"\x7fELF"


def test_layout_of_older_archives_of_cudnn(tmp_path: Path) -> None:
    members = [
        file("cuda/include/cudnn.h", b"x"),
        file("cuda/NVIDIA_SLA_cuDNN_Support.txt", b"x"),
        link("cuda/lib64/libcudnn.so.8", "libcudnn.so.8.1.0"),
        file("cuda/lib64/libcudnn.so.8.1.0", b"x"),
    ]
    unpack(tmp_path, members, mode="w:gz")
    assert os.path.realpath(tmp_path / "tree/lib64/libcudnn.so.8") == str(tmp_path / "tree/lib64/libcudnn.so.8.1.0")


def test_owner_and_modes_are_ours(tmp_path: Path) -> None:
    unpack(tmp_path, [file("a/bin/nvcc", b"x", 0o711), file("a/lib/x", b"x", 0o666), file("a/lib/y", b"", 0o000)])
    tree = tmp_path / "tree"
    found = {name: (tree / name).stat() for name in ("bin", "bin/nvcc", "lib/x", "lib/y")}
    assert {name: oct(status.st_mode & 0o7777) for name, status in found.items()} == {
        "bin": "0o755",
        "bin/nvcc": "0o755",
        "lib/x": "0o644",
        "lib/y": "0o644",
    }
    assert {status.st_uid for status in found.values()} == {os.geteuid()}


def test_hard_link_within_the_archive(tmp_path: Path) -> None:
    tree = unpack(tmp_path, [file("a/lib/x", b"abc"), hard_link("a/lib/y", "a/lib/x")])
    assert tree.files == {"lib/x": 3, "lib/y": 3}
    assert (tmp_path / "tree/lib/y").read_bytes() == b"abc"


def test_link_that_climbs_within_the_tree(tmp_path: Path) -> None:
    unpack(tmp_path, [file("a/lib/x", b"abc"), link("a/targets/sbsa/lib", "../../lib")])
    assert (tmp_path / "tree/targets/sbsa/lib/x").read_bytes() == b"abc"


def test_same_file_in_two_archives(tmp_path: Path) -> None:
    tree = unpack(tmp_path, [file("a/include/x.h", b"same")], [file("b/include/x.h", b"same")])
    assert tree.files == {"include/x.h": 4}


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (file("b/include/x.h", b"other"), "already unpacked from another archive, with other contents"),
        (link("b/include/x.h", "y"), "already unpacked from another archive"),
        (folder("b/include/x.h"), "already unpacked as a file or link"),
        (file("b/include", b"x"), None),  # at the top: it goes beside the licenses
        (link("b/include", "lib"), "already unpacked from another archive"),
        (file("b/include/x.h/y", b"x"), "would be unpacked through include/x.h"),
    ],
    ids=["contents", "link", "directory", "top", "link_over_directory", "below_a_file"],
)
def test_two_archives_that_contradict(tmp_path: Path, second: Member, said: str | None) -> None:
    first = [file("a/include/x.h", b"one")]
    if said is None:
        assert unpack(tmp_path, first, [second]).files == {"include/x.h": 3, "share/doc/part1/include": 1}
        return
    with pytest.raises(StackError, match=said):
        unpack(tmp_path, first, [second])


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    members, said = HOSTILE[name]
    with pytest.raises(StackError) as raised:
        unpack(tmp_path, members(outside))
    assert said in raised.value.message
    assert "0.tar" in raised.value.message
    assert names_below(outside) == ["secret"]
    assert (outside / "secret").stat().st_nlink == 1
    assert sorted(os.listdir(tmp_path)) == ["0.tar", "outside", "tree"]
    tree = str(tmp_path / "tree")
    assert all(os.path.realpath(path).startswith(tree) for path in (tmp_path / "tree").rglob("*"))


@pytest.mark.parametrize("mode", ["w:xz", "w:gz", "w"])
def test_truncated_archive(tmp_path: Path, mode: str) -> None:
    whole = pack(tmp_path / "whole.tar", library("cuda_cudart", "cudart", "11.2.152", os.urandom(50_000)), mode)
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole.read_bytes()[:30_000])
    tree = Tree(str(tmp_path / "tree"))
    (tmp_path / "tree").mkdir()
    with pytest.raises(StackError, match=r"cut\.tar cannot be unpacked: "):
        tree.unpack(str(cut), component="cuda_cudart", name="cut.tar")


def test_archive_whose_checksum_is_wrong(tmp_path: Path) -> None:
    whole = pack(tmp_path / "whole.tar", library("cuda_cudart", "cudart", "11.2.152"), "w").read_bytes().rstrip(b"\0")
    # Without the blocks that end it, so that Python reads up to the checksum.
    data = bytearray(gzip.compress(whole + b"\0" * (-len(whole) % 512)))
    data[-8] ^= 1
    (tmp_path / "x.tar.gz").write_bytes(data)
    (tmp_path / "tree").mkdir()
    with pytest.raises(StackError, match=r"x\.tar\.gz cannot be unpacked: CRC check failed"):
        Tree(str(tmp_path / "tree")).unpack(str(tmp_path / "x.tar.gz"), component="cuda_cudart", name="x.tar.gz")


def test_no_archive_at_all(tmp_path: Path) -> None:
    page = tmp_path / "page.tar.xz"
    page.write_text("<html>Please accept the license</html>")
    with pytest.raises(StackError, match=r"page\.tar\.xz cannot be unpacked"):
        Tree(str(tmp_path)).unpack(str(page), component="cudnn", name="page.tar.xz")
