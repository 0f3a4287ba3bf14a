"""Bytecode that builds share: compiled once, never taken on trust, and not missed if it cannot be kept."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import venv
from ansible.module_utils.tensorflow_stack.io.flock import exclusive_lock

from tests.component.environment.test_venv import NAME, Site
from tests.wheels import make_wheel

TAG = sys.implementation.cache_tag


@pytest.fixture
def site(tmp_path: Path, uv: str) -> Site:
    return Site(tmp_path, uv)


def _bytecode(site: Site, name: str = NAME) -> Path:
    site_packages = Path(site.root, name, site.site_packages.relative_to(site.live))
    return site_packages / "numpy" / "__pycache__" / f"__init__.{TAG}.pyc"


def _build_other(site: Site, name: str = "other", **options) -> bool:
    """Whether the build of another environment from the same lock compiled."""
    assert site.apply(dataclasses.replace(site.spec(), name=name), **options).action == "build"
    return "Compiling" in Path(site.root, ".builds", f"{name}.log").read_text()


def test_the_next_build_compiles_nothing_even_after_the_first_was_removed(site: Site) -> None:
    site.apply()
    inode = _bytecode(site).stat().st_ino
    assert not _build_other(site)
    assert _bytecode(site, "other").stat().st_ino == inode
    for name in (NAME, "other"):
        venv.apply_absent(site.root, name, lock_timeout=0)
    assert not _build_other(site, "third")
    assert _bytecode(site, "third").stat().st_ino == inode


def test_a_file_that_does_not_compile_is_not_tried_again(site: Site) -> None:
    odd = make_wheel(site.wheels, "odd", "1.0", {"odd/template.py": "print 'Python 2'\n", "odd/__init__.py": ""})
    site.apply(site.spec(site.tensorflow, site.numpy, odd))
    assert site.apply(dataclasses.replace(site.spec(site.tensorflow, site.numpy, odd), name="other")).action == "build"
    assert "Compiling" not in Path(site.root, ".builds", "other.log").read_text()


def test_only_a_package_that_is_new_is_compiled(site: Site) -> None:
    site.apply()
    inode = _bytecode(site).stat().st_ino
    newer = make_wheel(site.wheels, "six", "1.16.0", {"six.py": "x = 1\n"})
    site.apply(site.spec(site.tensorflow, site.numpy, newer))
    assert _bytecode(site).stat().st_ino == inode
    assert (site.site_packages / "__pycache__" / f"six.{TAG}.pyc").exists()


@pytest.mark.parametrize("damage", ["edited in place", "cut", "index cut", "index of another shape", "gone", "a link"])
def test_what_is_not_as_it_was_compiled_is_not_linked(site: Site, damage: str, tmp_path: Path) -> None:
    site.apply()
    (entry,) = Path(site.root, ".cache", "bytecode").glob("*/numpy-1.23.5-*")
    kept, index = entry / "numpy" / "__pycache__" / f"__init__.{TAG}.pyc", entry / "index.json"
    right = kept.read_bytes()
    if damage == "edited in place":
        with open(kept, "r+b") as stream:
            stream.write(right.replace(b"1.23.5", b"6.66.6"))
    elif damage == "cut":
        os.truncate(kept, 20)
    elif damage == "index cut":
        os.truncate(index, 10)
    elif damage == "index of another shape":
        index.write_text('{"numpy/__pycache__/__init__.%s.pyc": 3}' % TAG)
    elif damage == "gone":
        kept.unlink()
    else:
        kept.unlink()
        (tmp_path / "theirs").write_bytes(right)
        kept.symlink_to(tmp_path / "theirs")
    assert _build_other(site)
    assert _bytecode(site, "other").read_bytes()[:16] == right[:16] and not _bytecode(site, "other").is_symlink()
    program = [Path(site.root, "other", "bin", "python"), "-c", "import numpy; print(numpy.version)"]
    assert subprocess.check_output(program, text=True) == "1.23.5\n"
    # And the store has it right again.
    assert not _build_other(site, "third")


def test_bytecode_of_a_source_that_was_fetched_again_is_compiled_again(site: Site) -> None:
    site.apply()
    (source,) = Path(site.root, ".cache", "uv").glob("archive-*/*/numpy/__init__.py")
    os.utime(source, (1, 1))
    assert _build_other(site)
    assert _bytecode(site, "other").read_bytes()[8:12] == b"\1\0\0\0"


def test_a_store_in_use_or_half_written_hinders_no_build(site: Site) -> None:
    store = Path(site.root, ".cache", "bytecode")
    site.apply()
    (version,) = store.glob("[0-9]*")
    (version / ".numpy-1.23.5-0123").mkdir()  # of a run that was killed
    newer = make_wheel(site.wheels, "six", "1.16.0", {"six.py": "x = 1\n"})
    spec = site.spec(site.tensorflow, site.numpy, newer)
    with exclusive_lock(str(store / ".lock"), what="the store"):
        assert site.apply(spec).action == "build"
    assert not list(version.glob("six-*"))
    venv.apply_absent(site.root, NAME, lock_timeout=0)
    assert site.apply(spec).action == "build"
    assert list(version.glob("six-*")) and not (version / ".numpy-1.23.5-0123").exists()


def test_bytecode_of_a_source_that_was_edited_in_the_cache_is_not_kept(site: Site) -> None:
    site.apply()
    venv.apply_absent(site.root, NAME, lock_timeout=0)
    shutil.rmtree(Path(site.root, ".cache", "bytecode"))
    (source,) = Path(site.root, ".cache", "uv").glob("archive-*/*/numpy/__init__.py")
    before = source.stat()
    source.write_bytes(source.read_bytes().replace(b"1.23.5", b"6.66.6"))
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    site.apply()
    assert site.says() == "2.8.0 1.23.5"
    for kept in Path(site.root, ".cache", "bytecode").glob("*/numpy-*/numpy/__pycache__/*.pyc"):
        assert b"6.66.6" not in kept.read_bytes()
