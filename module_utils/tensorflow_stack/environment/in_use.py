"""What is in use below a root: `<root>/current`, a stable path to the environment that was applied last."""

from __future__ import annotations

import os
from typing import Any

from ..errors import BuildError
from ..io.writing import sync_directory
from ..records.history import CURRENT_LINK, Position
from ..records.manifest import name_in_use
from .builds import live_build


def read_link(root: str) -> str | None:
    """The environment that `<root>/current` points to; None if it is no link to one."""
    try:
        target = os.readlink(os.path.join(root, CURRENT_LINK))
    except OSError:
        return None
    return None if "/" in target else target


def is_others(root: str, content: dict[str, Any], name: str | None = None) -> bool:
    """Whether somebody else made what is at that path, so that it has to stay. A link to `name` is as good as ours."""
    link = read_link(root)
    if link is not None and (content.get("has_current_link") or link == name):
        return False
    return os.path.lexists(os.path.join(root, CURRENT_LINK))


def about_others(root: str) -> str:
    path = os.path.join(root, CURRENT_LINK)
    return (
        f"{path} exists and was not made by this toolkit, so it is not changed. Move it away if {path} shall be a link "
        "to the environment that was applied last."
    )


def find_position(root: str, content: dict[str, Any]) -> Position | None:
    """The environment and the build in use, by the links below the root and the manifest."""
    return position_of(root, name_in_use(content, read_link(root)))


def position_of(root: str, name: str | None) -> Position | None:
    try:
        live = live_build(root, name) if name else None
    except BuildError:  # somebody else's, by now
        return None
    return Position(str(name), live.name) if live else None


def point_to(root: str, name: str | None) -> None:
    """Switch `<root>/current` by one rename, or remove it. The caller holds the manifest's lock."""
    path = os.path.join(root, CURRENT_LINK)
    temporary = os.path.join(root, ".builds", f".{CURRENT_LINK}.link")
    if os.path.lexists(temporary):
        os.unlink(temporary)  # of a run that was killed
    if read_link(root) == name:
        return
    if name is None:
        os.unlink(path)
    else:
        os.symlink(name, temporary)
        os.replace(temporary, path)
    sync_directory(root)
