"""Packages that builds share: what of the store is linked into a build, and what is not."""

from __future__ import annotations

import os
import py_compile
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import shared_packages
from ansible.module_utils.tensorflow_stack.environment.shared_index import files_of, read_index
from ansible.module_utils.tensorflow_stack.environment.shared_packages import (
    keep_packages,
    known_digests,
    link_packages,
    while_unlinking,
)
from ansible.module_utils.tensorflow_stack.environment.shared_store import (
    entry_of,
    find_store,
    find_unneeded,
    remove_unneeded,
)
from ansible.module_utils.tensorflow_stack.io.flock import exclusive_lock
from ansible.module_utils.tensorflow_stack.records.distributions import record_fields
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec
from ansible.module_utils.tensorflow_stack.records.lockfile import Distribution

from tests.wheels import make_lock

MINOR = "%d.%d" % sys.version_info[:2]
BELOW = f"lib/python{MINOR}/site-packages"
TAG = f"cpython-{sys.version_info[0]}{sys.version_info[1]}"
FILES = {"numpy/__init__.py": "version = '1.23.5'\n", "numpy/template.py": "print 'Python 2'\n", "six.py": "x = 1\n"}
NUMPY, SIX = Distribution("numpy", "1.23.5", ("1" * 64,), 1), Distribution("six", "1.16.0", ("2" * 64,), 1)


class Root:
    """Builds as uv installs them, and the store of their packages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        store = find_store(str(path / ".cache" / "uv"), str(self.make("none")))
        assert store
        self.store = store

    def make(self, name: str) -> Path:
        """A venv without packages."""
        build = self.path / ".builds" / name
        (build / BELOW).mkdir(parents=True)
        (build / "bin").mkdir()
        (build / "pyvenv.cfg").write_text(f"version_info = {MINOR}.4\n")
        return build

    def install(self, name: str) -> Path:
        build = self.make(name)
        program = f"#!{self.path}/{name}/bin/python\nimport numpy\n"
        (build / "bin" / "f2py").write_text(program)
        for file, text in FILES.items():
            (build / BELOW / file).parent.mkdir(exist_ok=True)
            (build / BELOW / file).write_text(text)
            py_compile.compile(str(build / BELOW / file), quiet=2)
        for package, more in ((NUMPY, ["../../../bin/f2py"]), (SIX, [])):
            own = [file for file in FILES if file.startswith(package.name)] + more
            rows = [",".join((file, *record_fields((build / BELOW / file).read_bytes()))) for file in own]
            info = build / BELOW / f"{package.name}-{package.version}.dist-info"
            info.mkdir()
            (info / "RECORD").write_text("\n".join([*rows, f"{info.name}/RECORD,,", ""]))
        return build

    def spec(self, name: str) -> EnvironmentSpec:
        lock = make_lock(NUMPY, SIX, release="2.8.0", python=MINOR)
        return EnvironmentSpec(name, str(self.path), "2.8.0", "cpu", sys.executable, lock)

    def link(self, build: Path, **options) -> list[str]:
        """The packages that were linked into a build that is named as its environment."""
        return sorted(link_packages(self.store, self.spec(build.name), str(build), BELOW, **options))

    def keep(self, build: Path, *, without: tuple[str, ...] = (), loose: tuple[str, ...] = ()) -> None:
        keep_packages(self.store, self.spec(build.name), str(build), BELOW, without=without, loose=loose)

    def entry(self, distribution: Distribution = NUMPY) -> Path:
        return Path(entry_of(self.store, distribution))

    def kept(self, file: str) -> Path:
        names = [f"{found.folder}/{found.name}" for found in files_of(read_index(str(self.entry())))]
        return self.entry() / "files" / str(names.index(f"{BELOW}/{file}"))


@pytest.fixture
def root(tmp_path: Path) -> Root:
    made = Root(tmp_path / "root")
    assert made.link(made.make("empty")) == [], "nothing is kept yet"
    made.keep(made.install("first"))
    return made


def test_a_build_gets_the_same_files_and_programs_of_its_own(root: Root) -> None:
    first, second = root.path / ".builds" / "first", root.make("second")
    assert root.link(second) == ["numpy", "six"]
    compiled = f"numpy/__pycache__/__init__.{TAG}.pyc"
    for file in ("numpy/__init__.py", compiled, "six-1.16.0.dist-info/RECORD"):
        assert (second / BELOW / file).samefile(first / BELOW / file)
    assert not list((second / BELOW).glob("numpy/__pycache__/template*")), "it does not compile"
    program = second / "bin" / "f2py"
    assert program.read_text() == f"#!{root.path}/second/bin/python\nimport numpy\n" and os.access(program, os.X_OK)
    row = ",".join(("../../../bin/f2py", *record_fields(program.read_bytes())))
    assert row in (second / BELOW / "numpy-1.23.5.dist-info" / "RECORD").read_text().splitlines()
    assert compiled in known_digests(root.store, str(second / BELOW), ["numpy", "six"])


def _edit(path: Path) -> None:
    """In place and of the same size; the time of before is set again."""
    before = path.stat()
    with open(path, "r+b") as stream:
        stream.write(path.read_bytes().replace(b"1.23.5", b"6.66.6"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace_by_a_link(path: Path) -> None:
    path.rename(path.with_suffix(".theirs"))
    path.symlink_to(path.with_suffix(".theirs"))


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 2)


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "edited in place": lambda file, entry: _edit(file),
    "cut": lambda file, entry: _cut(file),
    "of another time": lambda file, entry: os.utime(file, (1, 1)),
    "of another mode": lambda file, entry: file.chmod(0o666),
    "gone": lambda file, entry: file.unlink(),
    "a link": lambda file, entry: _replace_by_a_link(file),
    "a directory": lambda file, entry: (file.unlink(), file.mkdir()),
    "a FIFO": lambda file, entry: (file.unlink(), os.mkfifo(file)),
    "in an open directory": lambda file, entry: file.parent.chmod(0o777),
    "index cut": lambda file, entry: _cut(entry / "index"),
    "index gone": lambda file, entry: (entry / "index").unlink(),
    "index of another shape": lambda file, entry: (entry / "index").write_text("[]\nend\n"),
    "index leads out": lambda file, entry: (entry / "index").write_text(
        (entry / "index").read_text().replace(f"/{BELOW}", "/../x")
    ),
    "program edited": lambda file, entry: (entry / "scripts" / "bin" / "f2py").write_text("#!/bin/sh\n"),
    "program gone": lambda file, entry: (entry / "scripts" / "bin" / "f2py").unlink(),
}


@pytest.mark.parametrize("file", ["numpy/__init__.py", f"numpy/__pycache__/__init__.{TAG}.pyc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_of_what_is_not_as_it_was_kept_nothing_is_linked(root: Root, damage: str, file: str) -> None:
    time.sleep(0.02)  # the kernel's clock of files goes by ticks
    DAMAGES[damage](root.kept(file), root.entry())
    second = root.make("second")
    assert root.link(second) == ["six"]
    left = [path.name for path in second.rglob("*") if not path.is_dir() and "six" not in str(path)]
    assert left == ["pyvenv.cfg"]
    # Once it is installed again, the store has it right again.
    root.keep(root.install("third"))
    assert root.link(root.make("fourth")) == ["numpy", "six"]


@pytest.mark.parametrize("touch", [lambda path: path.chmod(0o644), lambda path: os.link(path, path.with_suffix(".x"))])
def test_what_was_touched_and_not_changed_is_compared_once(
    root: Root, touch: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []
    real = shared_packages.digest_of
    monkeypatch.setattr(shared_packages, "digest_of", lambda path: (compared.append(path), real(path))[1])
    assert root.link(root.make("second")) == ["numpy", "six"]
    of_programs = list(compared)  # a RECORD that was written anew
    time.sleep(0.02)
    touch(root.kept("numpy/__init__.py"))
    for name, more in (("third", ["__init__.py"]), ("fourth", [])):
        compared.clear()
        assert root.link(root.make(name)) == ["numpy", "six"]
        assert [os.path.basename(path) for path in compared if path.endswith(".py")] == more
        assert len(compared) == len(of_programs) + len(more)


def test_the_removal_of_a_build_is_no_reason_to_compare(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    first = root.path / ".builds" / "first"
    with while_unlinking(str(first), {"numpy": "1.23.5", "six": "1.16.0"}):
        shutil.rmtree(first)
    monkeypatch.setattr(shared_packages._Linking, "_compare_doubtful", lambda linking: linking._doubtful and 1 / 0)
    assert root.link(root.make("second")) == ["numpy", "six"]


def test_the_removal_of_a_build_hides_no_edit(root: Root) -> None:
    first = root.path / ".builds" / "first"
    time.sleep(0.02)
    _edit(first / BELOW / "numpy" / "__init__.py")
    with while_unlinking(str(first), {"numpy": "1.23.5", "six": "1.16.0"}):
        shutil.rmtree(first)
    assert root.link(root.make("second")) == ["six"]


def test_what_is_distrusted_or_has_unlisted_files_or_others_hashes_is_left_out(root: Root) -> None:
    assert root.link(root.make("second"), without={"numpy"}) == ["six"]
    shutil.rmtree(root.entry())
    root.keep(root.install("third"), loose=(f"{BELOW}/numpy/unlisted.so",))
    root.keep(root.path / ".builds" / "third", without=("numpy",))
    assert not root.entry().exists()
    assert root.entry(SIX) != root.entry(SIX.__class__("six", "1.16.0", ("3" * 64,), 1))


def test_two_packages_may_have_one_file_if_it_is_the_same(root: Root) -> None:
    for name, content, expected in (("same", "x = 1\n", ["numpy", "six"]), ("other", "y = 1\n", ["numpy"])):
        build = root.make(name)
        (build / BELOW / "six.py").write_text(content)
        assert root.link(build) == expected
        assert (build / BELOW / "six.py").read_text() == content


def test_a_program_whose_first_line_would_be_too_long_is_not_written(root: Root) -> None:
    assert root.link(root.make("x" * 120)) == ["six"]


def test_rows_that_lead_out_of_the_build_are_not_kept(root: Root) -> None:
    second = root.install("second")
    (root.path / ".builds" / "outside.py").write_text("x = 1\n")
    with open(second / BELOW / "six-1.16.0.dist-info" / "RECORD", "a") as record:
        record.write("../../../../outside.py,,\n")
    shutil.rmtree(root.entry(SIX))
    root.keep(second)
    assert not root.entry(SIX).exists() and root.entry().exists()


def test_what_a_killed_run_left_is_swept_and_a_store_in_use_is_left_alone(root: Root) -> None:
    left = Path(root.store.path) / ".numpy-1.23.5-0123"
    left.mkdir()
    second = root.install("second")
    with exclusive_lock(root.store.lock, what="the store"):
        root.keep(second)
        assert left.exists()
    root.keep(second)
    assert not left.exists()


def test_only_what_no_build_contains_is_unneeded(root: Root) -> None:
    caches, needed = str(root.path / ".cache"), {("six", "1.16.0")}
    assert find_unneeded(caches, {*needed, ("numpy", "1.23.5")}) == ()
    (root.path / ".cache" / "bytecode").mkdir()  # of an earlier version
    assert find_unneeded(caches, needed) == (str(root.entry()), f"{caches}/bytecode")
    remove_unneeded(caches, needed)
    assert (root.entry().exists(), root.entry(SIX).exists()) == (False, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("home = /usr/bin\nversion_info = 3.10.4\n", ("3.10.4", "cpython-310")),
        ("version_info = 3.14.0rc2\n", ("3.14.0rc2", "cpython-314")),
        ("version_info = 3.6.15\n", None),
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
