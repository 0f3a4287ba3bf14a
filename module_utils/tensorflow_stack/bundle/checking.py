"""Whether a bundle is what its manifest says: all of it, or what a plan needs.

What was compared by its sha256 once is known again by size and by what the server or file system says of its state, so
that many nodes and many plans read it once. That record is the controller's own: <tools>/bundles/<digest>.json.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import StackError
from ..io.downloads import Source, as_url, has_credentials
from ..io.flock import exclusive_lock
from ..io.reading import digest_of, read_json
from ..io.writing import write_json
from ..records.lockfile import Lock
from .manifest import MANIFEST, SIGNATURES, BundledFile, BundleManifest, parse_manifest
from .needs import BundleNeed, describe, find_files, needs_of_plan
from .signing import check_signature

_MOST_BYTES = 64 << 20
_LOCK_SECONDS = 3600


@dataclass(frozen=True)
class OpenBundle:
    source: Source
    manifest: BundleManifest
    sha256: str  # of the manifest

    def url_of(self, file: BundledFile) -> str:
        return f"{self.source.shown}/{urllib.parse.quote(file.path)}"


def open_bundle(place: str, *, signers: str | None = None) -> OpenBundle:
    """The bundle at a URL or in a directory; raises StackError unless it can be read and, if asked for, is signed."""
    if has_credentials(as_url(place)):
        raise StackError(
            "stack_bundle_url contains credentials, which the output of every task would show. Put them into ~/.netrc "
            "(mode 0600) of the user who runs the tasks."
        )
    source = Source(place, name="bundle", settings="stack_bundle_url")
    body = source.get(f"{source.shown}/{MANIFEST}", what="The manifest", limit=_MOST_BYTES).body
    if signers:
        check_signature(body, _signatures(source), signers, where=source.shown)
    manifest = parse_manifest(body.decode("utf-8", "replace"), where=source.shown)
    return OpenBundle(source, manifest, hashlib.sha256(body).hexdigest())


def _signatures(source: Source) -> dict[str, bytes]:
    found = {
        kind: source.find(f"{source.shown}/{name}", what=name, limit=_MOST_BYTES) for kind, name in SIGNATURES.items()
    }
    return {kind: answer.body for kind, answer in found.items() if answer is not None}


def find_plan_faults(
    place: str, plan: Mapping[str, Any], lock: Lock | None, *, signers: str | None, tools: str
) -> list[dict[str, str]]:
    """What is wrong with what a plan would take from the bundle: component, and what was found."""
    bundle = open_bundle(place, signers=signers)
    files, missing = find_files(bundle.manifest, needs_of_plan(plan, lock, all_of_it=False))
    lacking: dict[str, list[BundleNeed]] = {}
    for need in missing:
        lacking.setdefault(need.component, []).append(need)
    faults = [
        {"component": component, "found": f"a bundle without {describe(needs)}"} for component, needs in lacking.items()
    ]
    wanted = {file.path: file for file in [*files, *_around(bundle.manifest, files)]}
    damaged = find_damaged(bundle, list(wanted.values()), tools=tools)
    return faults + [{"component": "bundle", "found": text} for text in damaged]


def _around(manifest: BundleManifest, files: Sequence[BundledFile]) -> list[BundledFile]:
    """The pages of the projects, and all of the repositories: which packages are needed, only a node finds out."""
    projects = {file.name for file in files if file.kind in ("wheel", "source")}
    places = {f"simple/{project}/index.{kind}" for project in projects for kind in ("html", "json")}
    repositories = {"/".join(file.path.split("/")[:2]) + "/" for file in files if file.kind == "package"}
    return [
        file for file in manifest.files if file.path in places or any(file.path.startswith(one) for one in repositories)
    ]


def find_damaged(bundle: OpenBundle, files: Sequence[BundledFile], *, tools: str | None = None) -> list[str]:
    """A text for each file that is missing, cut or another one. Without `tools` nothing that is known counts."""
    if tools is None:
        return [fault for fault in (_fault_of(bundle, file, {}) for file in files) if fault]
    record = os.path.join(tools, "bundles", f"{bundle.sha256[:32]}.json")
    with exclusive_lock(record.replace(".json", ".lock"), what=record, wait=_LOCK_SECONDS):
        known = _read_record(record)
        before = json.dumps(known, sort_keys=True)
        faults = [fault for fault in (_fault_of(bundle, file, known) for file in files) if fault]
        if json.dumps(known, sort_keys=True) != before:
            with contextlib.suppress(OSError):  # only saves time
                write_json(record, known)
    return faults


def _read_record(path: str) -> dict[str, Any]:
    try:
        return read_json(path, _MOST_BYTES)
    except (OSError, ValueError):
        return {}


def _fault_of(bundle: OpenBundle, file: BundledFile, known: dict[str, Any]) -> str | None:
    """`known` has the state in which a file was whole, and is kept up to date."""
    try:
        state = _state_of(bundle, file)
        if state["bytes"] is not None and state["bytes"] != file.bytes:
            return f"{file.path} in the bundle {bundle.source.shown} with {state['bytes']} bytes, not {file.bytes}"
        # A server that says nothing of a file's state is asked for the file each time.
        mark = {"place": bundle.source.shown, **state}
        if any(state["marks"]) and known.get(file.path) == mark:
            return None
        _compare(bundle, file)
    except OSError as error:
        return f"no {file.path} in the bundle {bundle.source.shown} ({error.strerror or error})"
    except StackError as error:
        return error.message.rstrip(".")
    known[file.path] = mark
    return None


def _state_of(bundle: OpenBundle, file: BundledFile) -> dict[str, Any]:
    if bundle.source.directory is None:
        return bundle.source.state_of(bundle.url_of(file), what=file.path)
    status = os.stat(os.path.join(bundle.source.directory, file.path))
    return {"bytes": status.st_size, "marks": [str(status.st_ino), str(status.st_mtime_ns), str(status.st_ctime_ns)]}


def _compare(bundle: OpenBundle, file: BundledFile) -> None:
    if bundle.source.directory is None:
        bundle.source.compare(bundle.url_of(file), what=file.path, sha256=file.sha256, size=file.bytes)
        return
    found = digest_of(os.path.join(bundle.source.directory, file.path)).hex()
    if found != file.sha256:
        raise StackError(
            f"{file.path} in the bundle {bundle.source.shown} is not what its manifest says: expected sha256 "
            f"{file.sha256}, found {found}"
        )
