"""Shared bytecode: what of the store is linked into a build, and what is not."""

from __future__ import annotations

import os
import py_compile
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment.bytecode import (
    Store,
    find_store,
    find_unshared,
    keep_bytecode,
    link_bytecode,
    remove_unshared,
)
from ansible.module_utils.tensorflow_stack.io.flock import exclusive_lock
from ansible.module_utils.tensorflow_stack.records.distributions import record_fields

TAG = f"cpython-{sys.version_info[0]}{sys.version_info[1]}"
FILES = {"numpy/__init__.py": "version = '1.23.5'\n", "numpy/template.py": "print 'Python 2'\n", "six.py": "x = 1\n"}
PACKAGES = ["numpy", "six"]


class Root:
    """Builds whose sources are links to a cache, as uv makes them, and the store of their bytecode."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cache = path / ".cache" / "uv"
        for name, text in FILES.items():
            (self.cache / name).parent.mkdir(parents=True, exist_ok=True)
            (self.cache / name).write_text(text)
        self.directory = path / ".cache" / "bytecode"
        self.store = Store(str(self.directory / "3.10.4"), str(self.directory / ".lock"), TAG)

    def install(self, name: str) -> Path:
        """A site-packages without bytecode."""
        site_packages = self.path / name
        for file in FILES:
            (site_packages / file).parent.mkdir(parents=True, exist_ok=True)
            os.link(self.cache / file, site_packages / file)
        for package, version in (("numpy", "1.23.5"), ("six", "1.16.0")):
            own = [file for file in FILES if file.startswith(package)]
            rows = [",".join((file, *record_fields((site_packages / file).read_bytes()))) for file in own]
            info = site_packages / f"{package}-{version}.dist-info"
            info.mkdir()
            (info / "RECORD").write_text("\n".join([*rows, f"{info.name}/RECORD,,", ""]))
        return site_packages

    def link(self, site_packages: Path) -> list[str]:
        return link_bytecode(self.store, str(site_packages), PACKAGES)

    def compile(self, site_packages: Path) -> None:
        for file in FILES:
            py_compile.compile(str(site_packages / file), quiet=2)

    def keep(self, site_packages: Path) -> None:
        keep_bytecode(self.store, str(site_packages), PACKAGES)

    def kept(self, package: str) -> list[Path]:
        return list(self.directory.glob(f"3.10.4/{package}-*/**/*.pyc"))


def bytecode(site_packages: Path) -> Path:
    return site_packages / "numpy" / "__pycache__" / f"__init__.{TAG}.pyc"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    made = Root(tmp_path / "root")
    first = made.install("first")
    assert made.link(first) == PACKAGES, "nothing is kept yet"
    made.compile(first)
    made.keep(first)
    return made


def test_a_build_gets_the_same_files(root: Root) -> None:
    second = root.install("second")
    assert root.link(second) == []
    assert bytecode(second).samefile(bytecode(root.path / "first"))
    assert not list(second.glob("numpy/__pycache__/template*")), "a source that does not compile is not asked for"


def _edit(path: Path) -> None:
    with open(path, "r+b") as stream:
        stream.write(path.read_bytes().replace(b"1.23.5", b"6.66.6"))


def _replace_by_a_link(path: Path) -> None:
    path.rename(path.with_suffix(".theirs"))
    path.symlink_to(path.with_suffix(".theirs"))


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "edited in place": lambda file, index: _edit(file),
    "cut": lambda file, index: os.truncate(file, 20),
    "gone": lambda file, index: file.unlink(),
    "a link": lambda file, index: _replace_by_a_link(file),
    "a directory": lambda file, index: (file.unlink(), file.mkdir()),
    "a FIFO": lambda file, index: (file.unlink(), os.mkfifo(file)),
    "index cut": lambda file, index: os.truncate(index, 10),
    "index gone": lambda file, index: index.unlink(),
    "index of another shape": lambda file, index: index.write_text('["numpy"]'),
    "digest of another type": lambda file, index: index.write_text(f'{{"numpy/__pycache__/{file.name}": 3}}'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_as_it_was_compiled_is_not_linked(root: Root, damage: str) -> None:
    (kept,) = root.kept("numpy")
    DAMAGES[damage](kept, kept.parents[2] / "index.json")
    second = root.install("second")
    assert root.link(second) == ["numpy"]
    assert not bytecode(second).exists() and not bytecode(second).is_symlink()
    # Once it is compiled again, the store has it right again.
    root.compile(second)
    root.keep(second)
    third = root.install("third")
    assert root.link(third) == []
    assert bytecode(third).samefile(bytecode(second))


def test_a_source_of_another_time_or_size_is_compiled_again(root: Root) -> None:
    os.utime(root.cache / "numpy" / "__init__.py", (1, 1))
    assert root.link(root.install("second")) == ["numpy"]


def test_copied_sources_have_times_of_their_own_so_nothing_is_kept(tmp_path: Path) -> None:
    root = Root(tmp_path / "root")
    first = root.install("first")
    for file in FILES:
        (root.cache / file).unlink()
    root.compile(first)
    root.keep(first)
    assert root.kept("numpy") == root.kept("six") == []


def test_what_a_killed_run_left_is_swept_and_a_store_in_use_is_left_alone(root: Root) -> None:
    left = root.directory / "3.10.4" / ".numpy-1.23.5-0123"
    left.mkdir()
    second = root.install("second")
    root.compile(second)
    with exclusive_lock(root.store.lock, what="the store"):
        root.keep(second)
        assert left.exists()
    root.keep(second)
    assert not left.exists()


def test_rows_that_lead_out_of_the_build_are_passed_over(root: Root, tmp_path: Path) -> None:
    second = root.install("second")
    (tmp_path / "root" / "outside.py").write_text("x = 1\n")
    with open(second / "six-1.16.0.dist-info" / "RECORD", "a") as record:
        record.write("../outside.py,,\n")
    root.compile(second)
    root.keep(second)
    assert not list(root.path.glob("__pycache__/*")) and len(root.kept("six")) >= 1


def test_only_what_no_build_shares_is_superfluous(root: Root) -> None:
    assert find_unshared(str(root.directory)) == ()
    bytecode(root.path / "first").unlink()
    assert [Path(entry).name.rpartition("-")[0] for entry in find_unshared(str(root.directory))] == ["numpy-1.23.5"]
    remove_unshared(str(root.directory))
    assert (root.kept("numpy"), len(root.kept("six"))) == ([], 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("home = /usr/bin\nversion_info = 3.10.4\n", ("3.10.4", "cpython-310")),
        ("version_info = 3.14.0rc2\n", ("3.14.0rc2", "cpython-314")),
        ("version_info = ../../etc\n", None),
        ("version = 3.10.4\n", None),
    ],
)
def test_the_store_is_that_of_the_whole_version_of_python(
    tmp_path: Path, text: str, expected: tuple[str, str] | None
) -> None:
    (tmp_path / "pyvenv.cfg").write_text(text)
    store = find_store("/srv/tf/.cache/uv", str(tmp_path))
    found = store and (os.path.basename(store.path), store.tag)
    assert found == expected
    assert find_store(None, str(tmp_path)) is None
