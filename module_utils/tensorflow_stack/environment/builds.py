"""The builds of an environment on disk: which there are, which one is live.

A build is a whole venv at its final path, complete once `build.json` is in it (docs/architecture.md, "On a node").
"""

from __future__ import annotations

import glob
import os
import re
import shutil
from typing import Any, NamedTuple

from ..errors import BuildError
from ..records.build import BUILD_RECORD, read_record
from ..records.history import CURRENT_LINK
from ..records.image_note import note_path
from .shared_packages import while_unlinking

_BUILD_NAME = re.compile(r"(?P<name>.+)-(?P<digest>[0-9a-f]{12})-(?P<number>[0-9]+)\Z")


class Build(NamedTuple):
    """One directory under `.builds`; `record` is None as long as it is not complete."""

    path: str
    record: dict[str, Any] | None

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @property
    def number(self) -> int:
        matched = _BUILD_NAME.match(self.name)
        return int(matched.group("number")) if matched else 0

    @property
    def packages(self) -> dict[str, str]:
        return dict(self.record["packages"]) if self.record else {}


def build_log(root: str, name: str) -> str:
    """What uv and the later phases of the last build said."""
    return os.path.join(root, ".builds", f"{name}.log")


def check_log(root: str, name: str) -> str:
    """What TensorFlow said in the last check, if that failed. No environment has a log of this name."""
    return os.path.join(root, ".builds", f"{name}.check")


def live_build(root: str, name: str) -> Build | None:
    """The build that the environment's link points to, or None.

    Raises BuildError when something that this toolkit did not make stands at the environment's path.
    """
    link = os.path.join(root, name)
    if not os.path.islink(link):
        if os.path.exists(link):
            raise BuildError(
                f"{link} exists and was not made by this toolkit (it is no link into {root}/.builds). "
                "Move it away, or set tensorflow_root to another directory.",
                path=link,
            )
        return None
    target = os.path.normpath(os.path.join(root, os.readlink(link)))
    if os.path.dirname(target) != os.path.join(root, ".builds"):
        raise BuildError(
            f"{link} is a link to {target}, outside {root}/.builds, which this toolkit did not make. "
            "Move it away, or set tensorflow_root to another directory.",
            path=link,
        )
    return Build(target, read_record(target))


def builds_of(root: str, name: str) -> list[Build]:
    """Every build of one environment, complete or not, oldest first."""
    found = []
    for path in glob.glob(os.path.join(glob.escape(os.path.join(root, ".builds", name)), "")[:-1] + "-*"):
        matched = _BUILD_NAME.match(os.path.basename(path))
        if matched and matched.group("name") == name and os.path.isdir(path):
            found.append(Build(path, read_record(path)))
    return sorted(found, key=lambda build: build.number)


def environment_names(root: str) -> list[str]:
    """Every link below the root but the one to what was applied last."""
    try:
        return [entry for entry in sorted(os.listdir(root)) if _is_environment(os.path.join(root, entry))]
    except OSError:
        return []


def _is_environment(path: str) -> bool:
    if not os.path.islink(path):
        return False
    # An earlier version of this toolkit let an environment have that name.
    return os.path.basename(path) != CURRENT_LINK or os.path.dirname(os.readlink(path)) == ".builds"


def remove_build(build: Build) -> None:
    # Without its record a half removed directory is swept by the next build and never taken for complete.
    record = os.path.join(build.path, BUILD_RECORD)
    if os.path.lexists(record) and not os.path.lexists(note_path(build.path)):
        os.unlink(record)
    with while_unlinking(build.path, build.packages):
        remove_directory(build.path)


def remove_directory(path: str, *, ignore_errors: bool = False) -> None:
    """Remove what a build has on disk, complete or not."""
    if os.path.lexists(note_path(path)):
        from .images import remove  # most nodes have none

        remove(path)
    else:
        shutil.rmtree(path, ignore_errors=ignore_errors)
