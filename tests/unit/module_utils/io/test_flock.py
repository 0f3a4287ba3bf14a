from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import BusyError, StackError
from ansible.module_utils.tensorflow_stack.io.flock import exclusive_lock


def fail(number: int) -> object:
    def failing(path: str, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), path)

    return failing


@pytest.mark.parametrize(
    ("function", "number", "advice"),
    [
        pytest.param("makedirs", errno.EACCES, "Run as the owner of {}", id="directory of another user"),
        pytest.param("open", errno.EROFS, "Mount the file system of {} writable", id="file system that is read only"),
        pytest.param("pwrite", errno.ENOSPC, "Free some space below {}", id="full disk"),
    ],
)
def test_a_lock_that_cannot_be_written_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int, advice: str
) -> None:
    directory = tmp_path / ".locks"
    monkeypatch.setattr(os, function, fail(number))
    with pytest.raises(StackError) as caught:
        with exclusive_lock(
            str(directory / "pythons"), what="the Pythons", place_setting="set tensorflow_root to a directory of yours"
        ):
            pytest.fail("is not held")
    assert caught.value.message == (
        f"The lock {directory}/pythons cannot be written: {os.strerror(number)}. "
        f"{advice.format(directory)}, or set tensorflow_root to a directory of yours."
    )


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StackError, match="cannot be written"):
        with exclusive_lock(str(tmp_path / "lock"), what="the Pythons"):
            pytest.fail("is not held")
    assert not (tmp_path / "elsewhere").exists()


def test_only_settings_of_the_caller_are_named(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with exclusive_lock(path, what="the tools"):
        with pytest.raises(BusyError, match=r"Run again when it has ended, or raise the_wait\.$"):
            with exclusive_lock(path, what="the tools", wait_setting="raise the_wait"):
                pytest.fail("is not held")
        with pytest.raises(BusyError, match=r"Run again when it has ended\.$"):
            with exclusive_lock(path, what="the tools"):
                pytest.fail("is not held")
    with pytest.raises(StackError, match=rf"Run as the owner of {path}\.$"):
        with exclusive_lock(f"{path}/below", what="the tools"):
            pytest.fail("is not held")


def test_an_error_of_the_work_itself_passes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        with exclusive_lock(str(tmp_path / "lock"), what="the tools"):
            os.stat(tmp_path / "missing")
    with exclusive_lock(str(tmp_path / "lock"), what="the tools"):
        pass


def test_the_process_that_really_holds_it_is_named(tmp_path: Path) -> None:
    """A program that a run started holds its lock after the run was killed."""
    path = tmp_path / "lock"
    path.write_text("process 999999999 since 2026-11-26T12:00:00Z\n")
    program = "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, 2); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout
            holder.stdout.readline()
            with pytest.raises(BusyError) as caught, exclusive_lock(str(path), what="the tools", wait=0.3):
                pytest.fail("is not held")
        finally:
            holder.kill()
    assert f"is in use by process {holder.pid} ({os.path.basename(sys.executable)})" in caught.value.message
    assert "999999999" not in caught.value.message


def test_its_own_run_is_named_with_its_beginning(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with (
        exclusive_lock(path, what="the tools"),
        pytest.raises(BusyError, match=rf"process {os.getpid()} \(.*\) since 2"),
    ):
        with exclusive_lock(path, what="the tools"):
            pytest.fail("is not held")
