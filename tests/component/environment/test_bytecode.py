"""Bytecode that builds share: compiled once, never taken on trust, and not missed if it cannot be kept."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import installing, venv

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


def test_only_a_package_that_is_new_is_compiled(site: Site) -> None:
    site.apply()
    inode = _bytecode(site).stat().st_ino
    newer = make_wheel(site.wheels, "six", "1.16.0", {"six.py": "x = 1\n"})
    site.apply(site.spec(site.tensorflow, site.numpy, newer))
    assert _bytecode(site).stat().st_ino == inode
    assert (site.site_packages / "__pycache__" / f"six.{TAG}.pyc").exists()


def test_a_python_that_uv_does_not_compile_for_compiles_itself(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.6: no release could be built on it. What is of another grammar ends nothing."""
    monkeypatch.setattr(installing, "_NOT_COMPILED_BY_UV", (site.spec().lock.python,))
    grammar = make_wheel(site.wheels, "six", "1.16.0", {"six.py": "x = 1\n", "six_template.py": "class {{ name }}:\n"})
    site.apply(site.spec(site.tensorflow, site.numpy, grammar))
    assert _bytecode(site).exists()
    assert (site.site_packages / "__pycache__" / f"six.{TAG}.pyc").exists()


def test_bytecode_of_a_source_that_was_fetched_again_is_compiled_again(site: Site) -> None:
    site.apply()
    (source,) = Path(site.root, ".cache", "uv").glob("archive-*/*/numpy/__init__.py")
    os.utime(source, (1, 1))
    assert _build_other(site)
    assert _bytecode(site, "other").read_bytes()[8:12] == b"\1\0\0\0"


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
