"""What others may write is not used, and nothing is written through a link (docs/security.md)."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import time
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import installing, interpreter, own_pythons
from ansible.module_utils.tensorflow_stack.environment.root import check_cache
from ansible.module_utils.tensorflow_stack.errors import BuildError, StackError
from ansible.module_utils.tensorflow_stack.fleet.files import write_record
from ansible.module_utils.tensorflow_stack.io import trust, writing
from ansible.module_utils.tensorflow_stack.io.files import FileChanges
from ansible.module_utils.tensorflow_stack.io.flock import exclusive_lock
from ansible.module_utils.tensorflow_stack.packages import apt_get as apt_get_module
from ansible.module_utils.tensorflow_stack.packages.apt_get import AptGet
from ansible.module_utils.tensorflow_stack.records.lockfile import read_lock

# --- What is opened is what was looked at -------------------------------------------------------------------


def test_a_directory_that_is_swapped_while_it_is_looked_at_is_not_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name leads elsewhere as soon as it was judged; the descriptor is still the one of the judged directory."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "evil" / "b").mkdir(parents=True)
    (tmp_path / "evil" / "b").chmod(0o777)
    judge = trust.judge

    def swap(path: str, status: os.stat_result, **how: bool) -> trust.Weakness | None:
        if path == str(tmp_path / "a") and not (tmp_path / "moved").exists():
            (tmp_path / "a").rename(tmp_path / "moved")
            (tmp_path / "a").symlink_to("evil")
        return judge(path, status, **how)

    monkeypatch.setattr(trust, "judge", swap)
    with trust.walked(str(tmp_path / "a" / "b")) as (weakness, descriptor):
        assert weakness is None and descriptor is not None
        assert os.fstat(descriptor).st_ino == (tmp_path / "moved" / "b").stat().st_ino


def test_a_file_is_written_where_its_directory_was_when_writing_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "evil").mkdir()
    fsync = os.fsync

    def swap(descriptor: int) -> None:
        (tmp_path / "a").rename(tmp_path / "moved")
        (tmp_path / "a").symlink_to("evil")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", swap)
    writing.write_text(str(tmp_path / "a" / "file"), "x")
    assert [path.name for path in (tmp_path / "moved").iterdir()] == ["file"]
    assert list((tmp_path / "evil").iterdir()) == []


# --- FIFOs, devices, links, files without an end -----------------------------------------------------------


@pytest.fixture(params=["fifo", "link to a device", "link to a file"])
def planted(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "planted"
    (tmp_path / "theirs").write_text("theirs")
    if request.param == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if request.param.endswith("device") else tmp_path / "theirs")
    return path


def test_no_log_or_lock_is_written_through_what_somebody_planted(planted: Path, tmp_path: Path) -> None:
    """Within seconds: opening a FIFO would wait for a reader."""
    with pytest.raises(OSError, match=r"not a regular file|symbolic link"):
        installing.BuildLog(str(planted))
    with pytest.raises(StackError, match="cannot be written"):
        with exclusive_lock(str(planted), what="it"):
            pytest.fail("is not held")
    with pytest.raises((OSError, StackError)):
        interpreter.fetch(
            "/nowhere", "3.10", root=str(tmp_path), uv="/bin/false", mirror=None, downloads=None, log=str(planted)
        )
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_nothing_that_has_no_end_is_read(tmp_path: Path) -> None:
    (tmp_path / "zero").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "fifo")
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(3 << 30)
    started = time.monotonic()
    for name in ("zero", "fifo", "huge"):
        with pytest.raises(StackError, match="cannot be read"):
            read_lock(str(tmp_path / name))
        with pytest.raises(StackError, match="cannot be read"):
            FileChanges(str(tmp_path)).read(f"/{name}")
    assert time.monotonic() - started < 5


# --- Locks and temporary files -------------------------------------------------------------------------------


def test_pins_for_apt_are_where_nobody_can_swap_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def apt_get(argv: list[str]) -> str:
        (option,) = [word for word in argv if word.startswith("-o=Dir::Etc::preferences=")]
        path = Path(option.rpartition("=")[2])
        assert path.stat().st_mode & 0o777 == 0o644 and path.parent.stat().st_mode & 0o777 == 0o755
        seen.append(path.read_text() + str(path))
        return ""

    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "open"))
    monkeypatch.setattr(apt_get_module, "read_foreign_pins", lambda: "")
    AptGet(apt_get, lock_timeout=0).simulate({"libcudnn8": "8.1.0"}, {})
    assert "libcudnn8" in seen[0] and str(tmp_path) not in seen[0]
    assert list((tmp_path / "open").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user: run as root")
@pytest.mark.parametrize("mode", [None, 0o644], ids=["new", "of an earlier version"])
def test_another_user_cannot_hold_a_lock(tmp_path: Path, mode: int | None) -> None:
    path = tmp_path / "locks" / "name"
    tmp_path.chmod(0o755)
    if mode:
        path.parent.mkdir()
        path.touch(mode)
    with exclusive_lock(str(path), what="it"):
        pass
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert path.stat().st_mode & 0o777 == 0o600


def test_temporary_files_are_where_nobody_can_swap_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o777)
    monkeypatch.setattr(trust.tempfile, "tempdir", str(tmp_path))
    with trust.private_directory("x-") as directory:
        assert not directory.startswith(str(tmp_path))
        assert os.stat(directory).st_mode & 0o777 == 0o700
    assert not os.path.exists(directory)
    monkeypatch.setattr(trust, "find_weakness", lambda path: trust.Weakness(path, "could be changed", is_ours=True))
    with pytest.raises(StackError, match=rf"{tmp_path} could be changed. Set TMPDIR to one that only you write"):
        with trust.private_directory("x-"):
            pytest.fail("is not made")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a link to another user: run as root")
def test_a_report_is_not_written_behind_a_link_of_another_user(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    link = tmp_path / "sticky" / "reports"
    link.symlink_to(tmp_path / "elsewhere")
    trust.refuse_planted_link(str(link / "fleet.json"))
    os.chown(link, 65534, 65534, follow_symlinks=False)
    with pytest.raises(StackError, match=rf"cannot be written: {link} is a link of user 65534"):
        write_record(str(link), {})
    assert list((tmp_path / "elsewhere").iterdir()) == []


# --- Cache and Pythons ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "installed/3.10.4",
        "installed/3.10.4/numpy-1-ab",
        "installed/3.10.4/numpy-1-ab/index",
        "uv/wheels-v8",
        "uv/wheels-v8/pypi/numpy/1-cp310",
        "uv/archive-v0",
        "uv/archive-v0/x",
    ],
)
def test_a_build_does_not_begin_with_a_cache_that_others_may_write(tmp_path: Path, name: str) -> None:
    for file in (
        "installed/3.10.4/numpy-1-ab/index",
        "uv/wheels-v8/pypi/numpy/1-cp310",
        "uv/archive-v0/x/y",
        "uv/.lock",
    ):
        path = tmp_path / ".cache" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / ".cache" / "uv" / ".lock").chmod(0o666)  # as uv makes it
    check_cache(str(tmp_path))
    (tmp_path / ".cache" / name).chmod(0o777)
    with pytest.raises(
        BuildError, match=rf"^{tmp_path}/.cache/{name} could be changed by others .* only you .*: chmod"
    ):
        check_cache(str(tmp_path))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The home of a Python below the root, noted as it was unpacked."""
    home = tmp_path / ".pythons" / "cpython-3.10.4"
    (home / "bin").mkdir(parents=True)
    (home / "lib").mkdir()
    (home / "bin" / "python3.10").symlink_to(sys.executable)
    (home / "bin" / "python").write_text("#!/bin/sh\n")
    (home / "lib" / "os.py").write_text("x = 1\n")
    (home.parent / "cpython-3.10").symlink_to(home.name)
    own_pythons.note_python(str(tmp_path), str(home.parent / "cpython-3.10" / "bin" / "python"))
    return home


def check(own: Path) -> None:
    own_pythons.check_python(str(own.parents[1]), str(own.parent / "cpython-3.10" / "bin" / "python"))


def test_a_python_of_the_root_is_used_as_it_was_unpacked(own: Path) -> None:
    (own / "lib" / "__pycache__").mkdir()
    (own / "lib" / "__pycache__" / "os.cpython-310.pyc").touch()
    check(own)
    before = (own / "lib" / "os.py").stat()
    (own / "lib" / "os.py").write_text("x = 2\n")
    os.utime(own / "lib" / "os.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(
        BuildError, match=rf"^{own} is not as it was unpacked: lib/os.py changed. Move it away and .*: mv"
    ):
        check(own)
    (own / "lib" / "os.py").write_text("x = 1\n")
    check(own)
    (own / "lib" / "sitecustomize.py").touch()
    with pytest.raises(BuildError, match="lib/sitecustomize.py changed"):
        check(own)


def test_a_python_of_the_root_that_others_may_write_is_refused(own: Path) -> None:
    (own / "lib").chmod(0o777)
    with pytest.raises(BuildError, match=rf"^{own}/lib could be changed by others .*, and root runs it"):
        check(own)


def test_another_python_and_one_without_a_note_are_taken(own: Path) -> None:
    own_pythons.check_python(str(own.parents[1]), sys.executable)
    (own.parent / f".{own.name}.json").unlink()
    (own / "lib" / "os.py").write_text("")
    check(own)
