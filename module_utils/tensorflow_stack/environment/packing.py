"""Pack a proven build as an image: a squashfs, its hash tree for dm-verity, and a manifest that says what it is."""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

from ..errors import BuildError, StackError
from ..io.clock import timestamp
from ..io.commands import c_locale, run
from ..io.flock import exclusive_lock
from ..io.reading import digest_of, read_whole
from ..io.space import check_free_space
from ..io.writing import sync_directory, write_text
from ..records import manifest
from ..records.build import BUILD_RECORD
from ..records.image import ImageManifest, parse_manifest, render_manifest
from ..records.image_note import MANIFEST_SUFFIX, MOST_BYTES, SUFFIX, VERITY_SUFFIX
from .builds import Build, environment_names, live_build
from .changes import listed_environments
from .damage import compare_build, find_added
from .root import check_root

_GOOD_VERDICTS = ("ok", "cpu_only_no_gpu")
_PACKAGES = "squashfs-tools and cryptsetup-bin (Debian, Ubuntu), or squashfs-tools and veritysetup (Enterprise Linux)"
# Of zstd. Its default of 15 takes minutes and saves a few per cent.
_LEVEL = "6"
# Of an environment on disk: 0.42 was measured for TensorFlow 2.8.0.
_MOST_OF_IT = 0.7


class PackOutcome(NamedTuple):
    """`path` is that of the image; `manifest` is None in check mode if the image has yet to be packed."""

    path: str
    changed: bool
    manifest: ImageManifest | None
    build: str


def pack(root: str, name: str | None, directory: str, *, check_mode: bool) -> PackOutcome:
    """Pack the build in use of an environment, of the one applied last without a name. Raises BuildError."""
    check_root(root)
    content = manifest.read(root)
    chosen = name or content.get("current")
    live = live_build(root, chosen) if chosen else None
    if chosen is None or live is None or live.record is None:
        raise BuildError(
            f"There is no environment {chosen or 'in use'} in {root} to pack: "
            f"{listed_environments(environment_names(root))}. Build one first (make workstation TENSORFLOW=)."
        )
    path = os.path.join(directory, f"{chosen}-{live.record['digest'][:12]}{SUFFIX}")
    packed = _find_packed(path, live.record["digest"])
    if packed or check_mode:
        if not packed:
            _check(root, chosen, live, content)
        return PackOutcome(path, not packed, packed, live.name)
    with exclusive_lock(
        os.path.join(root, ".locks", chosen), what=live.path, wait=0, place_setting="run as the owner of that directory"
    ):
        _check(root, chosen, live, content)
        os.makedirs(directory, mode=0o755, exist_ok=True)
        return PackOutcome(path, True, _pack(root, live, path), live.name)


def _find_packed(path: str, digest: str) -> ImageManifest | None:
    """The manifest of an image of the same environment, if it and its hash tree are whole."""
    try:
        text = read_whole(_beside(path, MANIFEST_SUFFIX), MOST_BYTES).decode("utf-8", "replace")
        found = parse_manifest(text, where=path)
        digests = [digest_of(file).hex() for file in (path, _beside(path, VERITY_SUFFIX))]
    except (OSError, StackError):
        return None
    return found if [found.digest, *digests] == [digest, found.sha256, found.verity_sha256] else None


def _check(root: str, name: str, live: Build, content: dict[str, Any]) -> None:
    """Raises BuildError unless the build is whole, was proven, and has nothing of a person's."""
    record = live.record or {}
    if record.get("image"):
        raise BuildError(
            f"{os.path.join(root, name)} is an image already. Copy it from where this one was fetched, or pack "
            "where it was built."
        )
    for program in ("mksquashfs", "veritysetup"):
        if run(["sh", "-c", f"PATH=$PATH:/usr/sbin:/sbin; command -v {program}"], timeout=60).code:
            raise BuildError(f"There is no {program}, with which images are packed. Install {_PACKAGES}.")
    check = content["environments"].get(name, {}).get("check") or {}
    built_at = timestamp(os.stat(os.path.join(live.path, BUILD_RECORD)).st_mtime)
    if check.get("verdict") not in _GOOD_VERDICTS or str(check.get("checked_at")) < built_at:
        raise BuildError(
            f"{live.name} was not proven here (last verdict: {check.get('verdict') or 'none'}), and only a proven "
            "build is packed. Run make verify first."
        )
    compared = compare_build(live, hashed=record["packages"])
    found = [text for _, text in compared.damage] or [row.text for row in find_added(live, compared) if not row.is_tool]
    if found:
        what = "damaged" if compared.damage else "an environment to which somebody added"
        raise BuildError(
            f"{live.name} is {what}: {'; '.join(found[:3])}. Build it again (make workstation) or record what was "
            "added (make add), then pack it."
        )


def _pack(root: str, live: Build, path: str) -> ImageManifest:
    record = live.record or {}
    size = sum(
        os.lstat(os.path.join(parent, file)).st_size for parent, _, files in os.walk(live.path) for file in files
    )
    check_free_space(os.path.dirname(path), int(size * _MOST_OF_IT), what="The image", setting="set image_directory")
    partial, tree = path + ".partial", _beside(path, VERITY_SUFFIX) + ".partial"
    for leftover in (partial, tree):
        if os.path.lexists(leftover):
            os.unlink(leftover)
    # The same for the same build: nothing of this moment is in it.
    built_at = int(os.stat(os.path.join(live.path, BUILD_RECORD)).st_mtime)
    _run(
        [
            "mksquashfs",
            live.path,
            partial,
            "-comp",
            "zstd",
            "-Xcompression-level",
            _LEVEL,
            "-all-root",
            "-no-xattrs",
            "-noappend",
            "-no-progress",
        ]
        + ["-quiet", "-mkfs-time", str(built_at)]
    )
    sha256 = digest_of(partial).hex()
    uuid = "-".join((sha256[:8], sha256[8:12], sha256[12:16], sha256[16:20], sha256[20:32]))
    said = _run(["veritysetup", "format", "--salt", sha256, "--uuid", uuid, partial, tree])
    root_hash = re.search(r"^Root hash:\s*([0-9a-f]{64})$", said, re.MULTILINE)
    if root_hash is None:
        raise BuildError(f"veritysetup names no root hash of {partial}: {said.strip()[-200:]}")
    _run(["veritysetup", "verify", partial, tree, root_hash.group(1)])
    described = ImageManifest(
        name=record["name"],
        root=root,
        release=record["release"],
        flavour=record["flavour"],
        digest=record["digest"],
        lock_sha256=record["lock_sha256"],
        minor=record["python"]["minor"],
        python=record["python"]["path"],
        sha256=sha256,
        bytes=os.path.getsize(partial),
        verity_sha256=digest_of(tree).hex(),
        verity_bytes=os.path.getsize(tree),
        root_hash=root_hash.group(1),
    )
    for source, target in ((partial, path), (tree, _beside(path, VERITY_SUFFIX))):
        os.chmod(source, 0o644)
        os.replace(source, target)
    # Last, so that an image with a manifest is whole.
    write_text(_beside(path, MANIFEST_SUFFIX), render_manifest(described))
    sync_directory(os.path.dirname(path))
    return described


def _run(command: list[str]) -> str:
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    done = run(command, env=c_locale(PATH=search))
    if done.code:
        said = [line.strip() for line in done.lines if line.strip()]
        raise BuildError(f"{command[0]} ended with {done.code}: {said[-1] if said else 'it said nothing'}", cmd=command)
    return done.output


def _beside(path: str, suffix: str) -> str:
    return path[: -len(SUFFIX)] + suffix
