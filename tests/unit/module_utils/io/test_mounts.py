"""A file system that hangs is named, and nothing waits for it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment.root import check_root
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.io import mounts
from ansible.module_utils.tensorflow_stack.node.record import read_node

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork")  # of the tests' own threads
LINE = "50 1 0:45 / {} rw,relatime shared:9 - {} server:/x rw\n"


@pytest.fixture
def hung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is on a mount of NFS and never answers, as a child that asks it sees it."""
    place = tmp_path / "hung mount"
    place.mkdir(mode=0o755)
    table = tmp_path / "mountinfo"
    shown = str(place).replace(" ", "\\040")
    table.write_text(LINE.format(shown, "nfs4") + LINE.format("/", "ext4") + "nonsense\n")
    real = mounts._ask
    monkeypatch.setattr(mounts, "_MOUNTS", str(table))
    monkeypatch.setattr(mounts, "_ask", lambda path: time.sleep(60) if path.startswith(str(place)) else real(path))
    monkeypatch.setattr(mounts, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(mounts.silent_paths, "__defaults__", (0.3,))
    return place


def test_only_what_a_server_or_a_program_answers_for_is_asked(hung: Path) -> None:
    assert mounts.remote_mounts() == [str(hung)]


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "fuse.sshfs", "fuse", "9p", "autofs"]
)
def test_kinds_that_may_hang(hung: Path, kind: str) -> None:
    Path(mounts._MOUNTS).write_text(
        LINE.format("/data", kind) + LINE.format("/x", "xfs") + LINE.format("/y", "overlay")
    )
    assert mounts.remote_mounts() == ["/data"]


def test_a_root_on_it_is_refused_in_time(hung: Path) -> None:
    started = time.monotonic()
    with pytest.raises(StackError) as caught:
        check_root(str(hung / "tensorflow"))
    assert time.monotonic() - started < 5
    assert caught.value.message == (
        f"{hung} did not answer within 0.3 s: its file system, such as one of NFS, hangs. Have its server answer or "
        "unmount it (umount -l), or set tensorflow_root to a directory of another one."
    )


def test_a_root_elsewhere_does_not_wait_for_it(hung: Path, tmp_path: Path) -> None:
    mounts.check_answers(str(tmp_path), setting="x")


def test_the_rest_of_a_node_is_read(hung: Path) -> None:
    (hung / "bin").mkdir()
    started = time.monotonic()
    record = read_node(environ={"PATH": f"{hung}/bin:/usr/bin"}, environments_root=str(hung / "tensorflow"))
    assert time.monotonic() - started < 30
    assert any("did not answer within" in row["reason"] and str(hung) in row["reason"] for row in record["unread"])
    assert record["os"]
    assert not record["environments_root"]["writable"]


def test_one_that_answers_is_no_obstacle(hung: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "_ask", lambda path: __import__("os")._exit(0))
    mounts.check_answers(str(hung), setting="x")
