from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError, UnwritableError
from ansible.module_utils.tensorflow_stack.io.files import FileChanges, sync_file_system


def changes(root: Path) -> FileChanges:
    """One file of each kind: new in a new directory, own with a wrong mode, edited, removed, a link."""
    (root / "etc").mkdir()
    for name, mode in (("own", 0o600), ("edited", 0o640), ("removed", 0o644), ("target", 0o644)):
        (root / "etc" / name).write_text(f"old {name}\n")
        (root / "etc" / name).chmod(mode)
    (root / "etc/link").symlink_to("target")
    files = FileChanges(str(root))
    files.write("/etc/new/file", b"new\n")
    files.write("/etc/own", b"old own\n")
    files.edit("/etc/edited", b"edited\n")
    files.remove("/etc/removed")
    files.write("/etc/link", b"new link\n")
    return files


def tree(root: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path.relative_to(root)): (
            stat.S_IMODE(path.lstat().st_mode),
            os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else "",
        )
        for path in sorted(root.rglob("*"))
    }


def test_written(tmp_path: Path) -> None:
    files = changes(tmp_path)
    before = tree(tmp_path)
    assert files
    old = os.umask(0o077)
    try:
        with files.written():
            pass
    finally:
        os.umask(old)
    assert tree(tmp_path) == {
        "etc": (0o755, ""),
        "etc/edited": (0o640, "edited\n"),
        "etc/link": (0o644, "new link\n"),
        "etc/new": (0o755, ""),
        "etc/new/file": (0o644, "new\n"),
        "etc/own": (0o644, "old own\n"),
        "etc/target": before["etc/target"],
    }


def test_taken_back(tmp_path: Path) -> None:
    files = changes(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(KeyboardInterrupt), files.written():
        _interrupt(tmp_path, before)
    assert tree(tmp_path) == before


def _interrupt(root: Path, before: dict[str, tuple[int, str]]) -> None:
    assert tree(root) != before
    raise KeyboardInterrupt


def test_write_that_fails_takes_back_what_was_written(tmp_path: Path) -> None:
    files = changes(tmp_path)
    files.write("/etc/late/file", b"below what is a file by then\n")
    (tmp_path / "etc/late").write_text("in the way")
    before = tree(tmp_path)
    with pytest.raises(UnwritableError, match="/etc/late/file cannot be written"), files.written():
        pytest.fail("not reached")
    assert tree(tmp_path) == before


def test_difference(tmp_path: Path) -> None:
    shown = {row["after_header"]: (row["before"], row["after"]) for row in changes(tmp_path).diff(bytes.decode)}
    assert shown == {
        "/etc/new/file": ("", "new\n"),
        "/etc/own": ("# mode 0600\nold own\n", "old own\n"),
        "/etc/edited": ("# mode 0640\nold edited\n", "# mode 0640\nedited\n"),
        "/etc/removed": ("old removed\n", ""),
        "/etc/link": ("old target\n", "new link\n"),
    }


def test_nothing_to_do(tmp_path: Path) -> None:
    with changes(tmp_path).written():
        pass
    files = FileChanges(str(tmp_path))
    files.write("/etc/own", b"old own\n")
    files.remove("/etc/removed")
    assert files.read("/etc/removed") is None
    assert not files
    assert files.diff(bytes.decode) == []


def test_reads_what_is_planned(tmp_path: Path) -> None:
    files = changes(tmp_path)
    assert files.read("/etc/edited") == b"edited\n"
    assert files.read("/etc/removed") is None
    assert files.read("/etc/target") == b"old target\n"


def test_unreadable(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    with pytest.raises(StackError, match="/etc cannot be read: is a directory, not a regular file"):
        FileChanges(str(tmp_path)).read("/etc")


def test_only_the_file_system_of_a_path_is_written_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sync", lambda: pytest.fail("every file system would be asked, one that hangs as well"))
    sync_file_system(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        sync_file_system(str(tmp_path / "gone"))
