"""The root of the environments, and what is in it."""

from __future__ import annotations

import os
import re
from typing import Any, Collection

from ..errors import StackError
from ..records.additions import find_additions
from ..records.build import BUILD_RECORD, find_misfits, read_record
from ..records.history import CURRENT_LINK, positions_before
from ..records.image_note import DIRECTORY as IMAGES
from ..records.manifest import find_misfit, name_in_use
from .files import NodeFiles

# Of a lock only the header is read.
_LOCK_HEAD_BYTES = 1 << 16

BUILD_KEYS = (
    "name",
    "release",
    "flavour",
    "digest",
    "build",
    "python",
    "cuda",
    "cudnn",
    "lock_sha256",
    "packages",
)


def read_environments_root(files: NodeFiles, root: str) -> dict[str, Any]:
    nearest = root
    while nearest != "/" and not files.exists(nearest, "environments_root"):
        nearest = os.path.dirname(nearest)
    writable, free_bytes = False, None
    try:
        files.host_path(root)  # if its own file system hangs, what is above it does not count
        host = files.host_path(nearest)
        writable = os.path.isdir(host) and os.access(host, os.W_OK | os.X_OK)
        usage = os.statvfs(host)
        free_bytes = usage.f_bavail * usage.f_frsize
    except OSError as error:
        files.add_unread("environments_root", f"{nearest}: {error.strerror}")
    exists = files.is_dir(root, "environments_root")
    return {"path": root, "exists": exists, "writable": writable, "free_bytes": free_bytes}


def read_environments(
    files: NodeFiles, root: str, manifest: dict[str, Any] | None, asked_for: Collection[str] = ()
) -> list[dict[str, Any]]:
    """A row for each environment that is live. Those that are asked for, or the one applied last, are looked into."""
    looked_into = asked_for or (name_in_use(manifest or {}, _current_link(files, root)),)
    rows: list[dict[str, Any]] = []
    if not files.is_dir(root, "environments"):
        return rows
    for name in files.names(root, "environments"):
        link = root + "/" + name
        try:
            if name == CURRENT_LINK and "/" not in (files.link_target(link) or "/"):
                continue
            build = files.resolve(link)
            if os.path.dirname(build) != files.resolve(root) + "/.builds":
                continue
        except OSError as error:
            files.add_unread("environments", f"{link}: {error.strerror}")
            continue
        record = files.json(build + "/build.json", "environments")
        if record is None:
            files.add_unread("environments", f"{link}: no build record in {build}")
            continue
        misfits = find_misfits(record, BUILD_KEYS)
        if misfits:
            files.add_unread("environments", "{}/build.json: {}".format(build, ", ".join(misfits)))
        elif record["name"] != name:
            files.add_unread("environments", "{}: its build was made for {}".format(link, record["name"]))
        else:
            row = {key: record[key] for key in BUILD_KEYS}
            row["python"] = {**record["python"], "real_path": _real_path(files, record["python"]["path"])}
            row["visible_gpus"] = record.get("visible_gpus")
            row["image"] = _read_image(files, root, build)
            # An image was a build of another number where it was packed.
            row["build"] = os.path.basename(build) if row["image"] else row["build"]
            row["requirements"] = _read_requirements(files, build, manifest, name)
            # A build of an earlier version of this toolkit has none.
            row["added"] = record.get("added", [])
            rows.append({**row, **_look_into(files, root, build, record, manifest, is_asked_for=name in looked_into)})
    return rows


def _read_image(files: NodeFiles, root: str, build: str) -> str | None:
    """The sha256 of the image that is mounted as the build; None if it is none."""
    note = f"{root}/{IMAGES}/{os.path.basename(build)}.json"
    content = files.json(note, "environments") if files.is_file(note, "environments") else None
    sha256 = (content or {}).get("sha256")
    return sha256 if isinstance(sha256, str) else None


def _read_requirements(files: NodeFiles, build: str, manifest: dict[str, Any] | None, name: str) -> dict[str, Any]:
    """What the lock of a build was made for: its lines, and the file that they were in.

    An earlier version of this toolkit did not record the file. Recorded as null it is a lock of the release alone.
    """
    head = files.data(build + "/lock.txt", "environments", _LOCK_HEAD_BYTES) or b""
    text = head.decode("utf-8", "replace")
    matched = re.search(r"^# requirements: (.+)$", text, re.MULTILINE)
    inputs = re.search(r"^# inputs_sha256: ([0-9a-f]{64})$", text, re.MULTILINE)
    recorded: Any = manifest
    for key in ("environments", name, "requirements"):
        recorded = recorded.get(key) if isinstance(recorded, dict) else None
    recorded = recorded if isinstance(recorded, dict) else {}
    return {
        "lines": matched.group(1).split(", ") if matched else [],
        "inputs_sha256": inputs.group(1) if inputs else None,
        "is_recorded": os.path.basename(build) in recorded,
        "path": recorded.get(os.path.basename(build)),
    }


def _look_into(
    files: NodeFiles,
    root: str,
    path: str,
    record: dict[str, Any],
    manifest: dict[str, Any] | None,
    *,
    is_asked_for: bool,
) -> dict[str, Any]:
    """What somebody added to a build, which a new one would lose, and whether it is whole.

    Files are compared (0.05 s for TensorFlow 2.8.0) if something was added or the environment is asked for.
    """
    row: dict[str, Any] = {"additions": [], "damage": None, "unfinished": [], "also_in": []}
    try:
        host = files.host_path(path)
        has_additions = bool(find_additions(host, record))
        # A record that lacks something is for tensorflow_venv to judge.
        if not has_additions and (not is_asked_for or find_misfits(record)):
            return row
        # Not loaded where it is not needed: it would cost every run some milliseconds.
        from ..environment.bookkeeping import find_unfinished
        from ..environment.builds import Build
        from ..environment.damage import compare_build, find_added, other_builds_with

        build = Build(host, read_record(host) or record)
        compared = compare_build(build)
        additions = find_added(build, compared)
        row["also_in"] = other_builds_with(build, additions) if additions else []
        row["unfinished"] = find_unfinished(files.host_path(root), build, manifest or {"environments": {}})
    except (OSError, KeyError, TypeError, AttributeError, StackError) as error:
        files.add_unread("environments", f"{path}: what is in it cannot be read: {error}")
        return row
    return {
        **row,
        "additions": [dict(addition._asdict()) for addition in additions],
        "damage": [text for _, text in compared.damage],
    }


def read_manifest(files: NodeFiles, root: str) -> dict[str, Any] | None:
    path = root + "/manifest.json"
    content = files.json(path, "manifest")
    misfit = find_misfit(content) if content is not None else None
    if misfit:
        files.add_unread("manifest", f"{path} {misfit}")
    return None if misfit else content


def shown_manifest(files: NodeFiles, root: str, manifest: dict[str, Any] | None) -> dict[str, Any] | None:
    """The manifest as the node record has it: `current` as the links say, `rollback` instead of the whole history."""
    if manifest is None:
        return None
    shown = {key: value for key, value in manifest.items() if key != "history"}
    kept = (
        position
        for position in positions_before(manifest.get("history", []))
        if files.is_file(f"{root}/.builds/{position.build}/{BUILD_RECORD}", "manifest")
    )
    back = next(kept, None)
    return {
        **shown,
        "current": name_in_use(manifest, _current_link(files, root)),
        "rollback": dict(back._asdict()) if back else None,
    }


def _current_link(files: NodeFiles, root: str) -> str | None:
    """The environment that the stable path points to."""
    try:
        target = files.link_target(root + "/" + CURRENT_LINK)
    except OSError:
        return None
    return None if target is None or "/" in target else target


def _real_path(files: NodeFiles, path: str) -> str | None:
    """Where an interpreter really is, there or gone: an environment may name one by a link, as uv makes them."""
    try:
        return files.resolve(path)
    except OSError:
        return None
