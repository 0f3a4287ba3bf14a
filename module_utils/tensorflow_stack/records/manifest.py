"""`<root>/manifest.json`: the environments of a node, their builds, the last verdict of each, and what was changed.

    {schema: 1, environments: {<name>: {release, flavour, build, digest, python, lock_sha256, builds: [...],
     requirements: {<build>: path on the controller, or null for the release alone; absent if it is unknown},
     asked: {<build>: {<variable of an inventory>: its value}},
     check: {verdict, reason, evidence_sha256, checked_at, report, expected: what the check required} or null}},
     current: the environment that was applied last, or null,
     has_current_link: whether <root>/current is this toolkit's,
     history: [...] (history.py)}

`tensorflow_venv` owns an environment's entry and the history, `tensorflow_gpu_check` the verdicts. What an earlier
version of this toolkit did not write is optional.
"""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Callable
from typing import Any

from ..errors import StackError, UnwritableError
from ..io.flock import exclusive_lock
from ..io.reading import read_json
from ..io.writing import write_json
from . import history

SCHEMA = 1
MOST_BYTES = 4 << 20
_TEXTS = ("release", "flavour", "build", "digest", "lock_sha256")
_CHECK_KEYS = {"verdict", "reason", "evidence_sha256", "checked_at", "report"}
# A change takes milliseconds: whoever holds the lock for longer is stopped, not busy.
_LOCK_SECONDS = 60


def path_of(root: str) -> str:
    return os.path.join(root, "manifest.json")


def read(root: str) -> dict[str, Any]:
    """The manifest; one without environments where there is no file. Raises StackError on a damaged file."""
    path = path_of(root)
    try:
        # A link is not followed: whoever could plant one must not choose what is believed here.
        content = read_json(path, MOST_BYTES, follow=False)
    except FileNotFoundError:
        return {"schema": SCHEMA, "environments": {}}
    except ValueError as error:
        raise _unusable(path, f"is {error}") from error
    except OSError as error:
        found = "is a symbolic link" if error.errno == errno.ELOOP else f"cannot be read ({error.strerror})"
        raise _unusable(path, found) from error
    schema = content.get("schema")
    if not isinstance(schema, int):
        raise _unusable(path, "has no schema number")
    if schema > SCHEMA:
        raise StackError(
            f"{path} has schema {schema}, this toolkit knows {SCHEMA}: use the newer one.",
            path=path,
        )
    misfit = find_misfit(content)
    if misfit:
        raise _unusable(path, misfit)
    return content


def find_misfit(content: dict[str, Any]) -> str | None:
    """What of a manifest's content is of another type than this toolkit writes."""
    environments, current = content.get("environments"), content.get("current")
    if not isinstance(environments, dict) or not all(isinstance(entry, dict) for entry in environments.values()):
        return "has no table of environments"
    for name, entry in environments.items():
        builds, check = entry.get("builds", []), entry.get("check")
        texts = [value for key, value in entry.items() if key in _TEXTS] + (builds if isinstance(builds, list) else [0])
        if not all(isinstance(text, str) for text in texts) or not isinstance(entry.get("python", {}), dict):
            return f"has an entry of {name} that this toolkit did not write"
        if check is not None and not (isinstance(check, dict) and check.keys() >= _CHECK_KEYS):
            return f"has a check of {name} that this toolkit did not write"
        if not _are_paths(entry.get("requirements") or {}):
            return f"has requirements of {name} that this toolkit did not write"
        if not _are_settings(entry.get("asked", {})):
            return f"has variables of {name} that this toolkit did not write"
    if current is not None and not isinstance(current, str):
        return "does not name the current environment"
    return history.find_misfit(content.get("history", []))


def _are_paths(requirements: Any) -> bool:
    """Of files on the controller, by build; None for the release alone."""
    return isinstance(requirements, dict) and all(
        path is None or isinstance(path, str) for path in requirements.values()
    )


def _are_settings(asked: Any) -> bool:
    return isinstance(asked, dict) and all(isinstance(settings, dict) for settings in asked.values())


def name_in_use(content: dict[str, Any], link: str | None) -> str | None:
    """The environment that was applied last; `link` is what <root>/current points to, None if it is no link.

    The link is changed first, the manifest next. A run that is killed between the two leaves a manifest that agrees
    with its own history: then the link is right. An earlier version of this toolkit writes neither history nor link:
    then the manifest is right.
    """
    recorded: str | None = content.get("current")
    if link is None or not content.get("has_current_link"):
        return recorded
    entries = content.get("history")
    last = history.read_position(entries[-1]["after"]) if entries else None
    return link if recorded == (last.environment if last else None) else recorded


def update(root: str, change: Callable[[dict[str, Any]], object]) -> bool:
    """Let `change` edit the manifest in place; gives back whether the file was written.

    Other writers wait. Readers see the old file or the new one, also after a power loss. Raises
    UnwritableError where it cannot be written.
    """
    lock = os.path.join(root, ".locks", "manifest")
    setting = "set tensorflow_root to a directory of yours"
    try:
        with exclusive_lock(lock, what=path_of(root), wait=_LOCK_SECONDS, place_setting=setting):
            return _write_changed(root, change)
    except UnwritableError:
        # A root that is read-only is as good as any other if there is nothing to write.
        if _changed(read(root), change) is None:
            return False
        raise


def _write_changed(root: str, change: Callable[[dict[str, Any]], object]) -> bool:
    after = _changed(read(root), change)
    if after is None:
        return False
    path = path_of(root)
    try:
        write_json(path, after)
    except OSError as error:
        raise UnwritableError(
            f"{path} cannot be written: {error.strerror}. Free some space or run as the owner of {root}, and run "
            "the playbook again.",
            path=path,
        ) from error
    return True


def _changed(content: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any] | None:
    after = copy.deepcopy(content)
    change(after)
    return None if after == content else after


def _unusable(path: str, found: str) -> StackError:
    return StackError(
        f"{path} {found}. Move it away and run the playbook again, which writes a new one;"
        " the environments are not changed.",
        path=path,
    )
