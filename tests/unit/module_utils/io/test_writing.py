from __future__ import annotations

import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.io.writing import write_json, write_text


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("theirs")
    (tmp_path / "file").symlink_to("victim")
    write_text(str(tmp_path / "file"), "ours")
    assert (tmp_path / "victim").read_text() == "theirs"
    assert not (tmp_path / "file").is_symlink()


def test_the_mode_is_as_asked_for_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_json(str(tmp_path / "shared"), {"b": 1, "a": [2]})
        write_text(str(tmp_path / "own"), "", mode=0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "shared").read_text() == '{\n  "a": [\n    2\n  ],\n  "b": 1\n}\n'
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("shared", "own")] == [0o644, 0o600]


def test_what_killed_writers_of_this_file_left_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    at_work = [f".file.{os.getpid()}-abcdefgh.new", f".other.{ended.pid}-abcdefgh.new", "file.new"]
    for name in (*at_work, f".file.{ended.pid}-abcdefgh.new"):
        (tmp_path / name).write_text("half")
    write_text(str(tmp_path / "file"), "whole")
    assert sorted(os.listdir(tmp_path)) == sorted(["file", *at_work])


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space left"):
        write_text(str(tmp_path / "file"), "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}
