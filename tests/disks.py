"""File systems in a file, mounted for a test: full, out of inodes, read-only, noexec, or cut off from their power."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def require(kind: str = "ext4") -> None:
    """Skips where no image can be mounted: without root, mkfs or loop devices, as in most containers."""
    if os.geteuid() != 0 or not shutil.which(f"mkfs.{kind}") or not Path("/dev/loop-control").exists():
        pytest.skip(f"needs root, mkfs.{kind} and loop devices")


class Disk:
    """An ext4, or an XFS, in an image, at `path` while it is mounted."""

    def __init__(self, directory: Path, mebibytes: int = 96, inodes: int = 0, *, kind: str = "ext4") -> None:
        self.image = directory / "disk.img"
        self.path = directory / "mounted"
        self.path.mkdir(mode=0o755)
        with self.image.open("wb") as stream:
            stream.truncate(mebibytes << 20)
        if kind == "xfs":
            _run(["mkfs.xfs", "-q", str(self.image)])
            return
        # Without lazy initialisation, so that only the tests write; without a reserve for root, so that it can be full.
        command = ["mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"]
        _run([*command, *(["-N", str(inodes)] if inodes else []), str(self.image)])

    def mount(self, options: str = "rw", image: Path | None = None) -> None:
        _run(["mount", "-o", f"loop,{options}", str(image or self.image), str(self.path)])

    def remount(self, options: str) -> None:
        _run(["mount", "-o", f"remount,{options}", str(self.path)])

    def unmount(self) -> None:
        _run(["umount", str(self.path)])

    def snapshot(self, path: Path) -> Path:
        """What a loss of power at this moment would leave."""
        _run(["cp", "--sparse=always", str(self.image), str(path)])
        return path

    def fill(self, leave: int = 0) -> None:
        """With a file, until so many bytes are left."""
        free = os.statvfs(self.path)
        with contextlib.suppress(OSError), (self.path / "filler").open("wb") as stream:
            for _ in range(max(0, free.f_bavail * free.f_frsize - leave) >> 12):
                stream.write(b"x" * 4096)
                stream.flush()


@contextlib.contextmanager
def mounted(disk: Disk, options: str = "rw") -> Iterator[Disk]:
    disk.mount(options)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk.path)], capture_output=True)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
