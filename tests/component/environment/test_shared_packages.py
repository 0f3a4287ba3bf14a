"""Packages that builds share: installed and compiled once, never taken on trust, not missed if they are not kept."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import builds, damage, installing, venv

from tests.component.environment.test_venv import NAME, Site
from tests.wheels import make_wheel

TAG = sys.implementation.cache_tag


@pytest.fixture
def site(tmp_path: Path, uv: str) -> Site:
    return Site(tmp_path, uv)


def _below(site: Site, file: str, name: str = NAME) -> Path:
    return Path(site.root, name, site.site_packages.relative_to(site.live), file)


def _build_other(site: Site, name: str = "other", **options) -> list[str]:
    """What the build of another environment from the same lock says that it installed and compiled."""
    assert site.apply(dataclasses.replace(site.spec(), name=name), **options).action == "build"
    lines = Path(site.root, ".builds", f"{name}.log").read_text().splitlines()
    return [line.split()[1] for line in lines if line.startswith(("== Installing", "== Compiling", "== Comparing"))]


def test_the_next_build_only_links_even_after_the_first_was_removed(site: Site) -> None:
    site.apply()
    files = ("numpy/__init__.py", f"numpy/__pycache__/__init__.{TAG}.pyc")
    inodes = [_below(site, file).stat().st_ino for file in files]
    assert _build_other(site) == []
    for name in (NAME, "other"):
        venv.apply_absent(site.root, name, lock_timeout=0)
    shutil.rmtree(Path(site.root, ".cache", "uv"))
    assert _build_other(site, "third") == []
    assert [_below(site, file, "third").stat().st_ino for file in files] == inodes
    build = builds.live_build(site.root, "third")
    assert build and damage.find_damage(build, hashed=build.packages) == [] and damage.find_added(build) == []


def test_only_a_package_that_is_new_is_installed(site: Site) -> None:
    site.apply()
    inode = _below(site, "numpy/__init__.py").stat().st_ino
    newer = make_wheel(site.wheels, "six", "1.16.0", {"six.py": "x = 1\n"})
    site.apply(site.spec(site.tensorflow, site.numpy, newer))
    assert "== Installing 1 packages from the cache" in Path(site.root, ".builds", f"{NAME}.log").read_text()
    assert _below(site, "numpy/__init__.py").stat().st_ino == inode
    assert _below(site, f"__pycache__/six.{TAG}.pyc").exists()
    assert _build_other(site) == []


def test_a_package_that_overwrites_another_one_is_seen(site: Site) -> None:
    site.apply()
    rude = make_wheel(site.wheels, "rude", "1.0", {"numpy/__init__.py": "version = 'mine'\n\n"})
    with pytest.raises(installing.BuildError, match=r"(numpy/__init__.py|rude)"):
        site.apply(site.spec(site.tensorflow, site.numpy, rude))
    assert site.says() == "2.8.0 1.23.5"


def test_a_python_that_uv_does_not_compile_for_compiles_itself(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.6: no release could be built on it. What is of another grammar ends nothing."""
    monkeypatch.setattr(installing, "_NOT_COMPILED_BY_UV", (site.spec().lock.python,))
    grammar = make_wheel(site.wheels, "six", "1.16.0", {"six.py": "x = 1\n", "six_template.py": "class {{ name }}:\n"})
    site.apply(site.spec(site.tensorflow, site.numpy, grammar))
    assert _below(site, f"numpy/__pycache__/__init__.{TAG}.pyc").exists()
    assert _below(site, f"__pycache__/six.{TAG}.pyc").exists()


def test_a_source_of_another_time_is_compiled_again(site: Site) -> None:
    site.apply()
    (source,) = Path(site.root, ".cache", "uv").glob("archive-*/*/numpy/__init__.py")
    os.utime(source, (1, 1))
    assert _build_other(site) == ["Installing", "Compiling", "Comparing"]
    assert _below(site, f"numpy/__pycache__/__init__.{TAG}.pyc", "other").read_bytes()[8:12] == b"\1\0\0\0"


@pytest.mark.parametrize("is_kept", [True, False])
def test_an_edit_in_place_that_hides_its_time_does_not_come_back(site: Site, is_kept: bool) -> None:
    site.apply()
    if not is_kept:
        venv.apply_absent(site.root, NAME, lock_timeout=0)
        shutil.rmtree(Path(site.root, ".cache", "installed"))
    (source,) = Path(site.root, ".cache", "uv").glob("archive-*/*/numpy/__init__.py")
    before = source.stat()
    source.write_bytes(source.read_bytes().replace(b"1.23.5", b"6.66.6"))
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    _build_other(site)
    assert "1.23.5" in _below(site, "numpy/__init__.py", "other").read_text()
    for kept in Path(site.root, ".cache", "installed").glob("*/numpy-*/files/**/*"):
        assert not kept.is_file() or b"6.66.6" not in kept.read_bytes()
    if is_kept:  # the environment that was edited is repaired, though its own files are those of the store no more
        assert site.apply(hashes=True).action == "repair"
        assert site.says() == "2.8.0 1.23.5"
