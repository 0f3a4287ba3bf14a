"""Builds that are images: fetched whole, compared, mounted by systemd at each boot, and removed without a trace.

The note of an image (records/image.py) is written before anything else of it exists, and says last that it is
complete; a removal begins by taking that back. So a run that is killed in between leaves what the next one removes.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from ..errors import BuildError, StackError
from ..io.commands import run
from ..io.files import sync_file_system
from ..io.reading import digest_of
from ..io.writing import sync_directory, write_json, write_text
from ..records.image_note import DIRECTORY, MANIFEST_SUFFIX, SUFFIX, VERITY_SUFFIX, note_path, read_note
from . import mount_units

# Of a file that is being fetched.
_PARTIAL = ".partial"
_NOTED = ("sha256", "bytes", "verity_sha256", "root_hash", "protection")


def check_can_mount() -> None:
    """Raises BuildError if this run cannot have an image mounted at each boot."""
    if os.geteuid() != 0:
        raise BuildError("Only root can mount an image. Run as root (become), or leave tensorflow_image out.")
    if not os.path.isdir("/run/systemd/system"):
        raise BuildError(
            "An image is mounted by systemd, which does not run here. Leave tensorflow_image out to have the "
            "environment built."
        )


def has_file(root: str, image: dict[str, Any]) -> bool:
    """Whether an image was fetched already, by its name and size; its contents are compared before it is used."""
    try:
        return os.path.getsize(_file_of(root, image["sha256"], SUFFIX)) == int(image["bytes"])
    except OSError:
        return False


def file_bytes(root: str, note: dict[str, Any]) -> int:
    """What the file of an image takes on disk."""
    try:
        return os.stat(_file_of(root, note["sha256"], SUFFIX)).st_blocks * 512
    except OSError:
        return 0


def mount(root: str, build: str, image: dict[str, Any]) -> None:
    """Have the image of a plan mounted as the build at this path, an empty directory. Raises BuildError, StackError."""
    check_can_mount()
    is_verity = image["protection"] == "dm-verity"
    directory = os.path.join(root, DIRECTORY)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    write_json(note_path(build), {**{key: image[key] for key in _NOTED}, "complete": False})
    path = _bring(root, image["source"], SUFFIX, image["sha256"], image["bytes"])
    verity = None
    if is_verity:
        tree = image["source"][: -len(SUFFIX)] + VERITY_SUFFIX
        verity = _bring(root, tree, VERITY_SUFFIX, image["verity_sha256"], image["verity_bytes"])
    units = mount_units.make_units(build, path, sha256=image["sha256"], verity=verity, root_hash=image["root_hash"])
    for name, text in units.texts.items():
        write_text(os.path.join(mount_units.DIRECTORY, name), text)
    mount_units.systemctl("daemon-reload")
    code, said = mount_units.systemctl("start", units.mount)
    if code or not os.path.ismount(build):
        _, status = mount_units.systemctl("status", "--lines=5", units.proof, units.mount)
        raise BuildError(
            f"The image {image['source']} could not be mounted at {build}: {said or 'systemd mounted nothing there'}. "
            "The environment in use is unchanged. A container without the right to mount has its environment built: "
            "leave tensorflow_image out.",
            stderr=status,
        )
    code, said = mount_units.systemctl("enable", units.mount)
    if code:
        raise BuildError(f"{units.mount} could not be enabled, so that it would not survive a reboot: {said}")


def complete(build: str) -> None:
    """Say of a mounted image that it was proven here. What is left of others that were half fetched is removed."""
    sync_file_system(os.path.dirname(build))
    write_json(note_path(build), {**(read_note(build) or {}), "complete": True})
    remove_unused(os.path.dirname(os.path.dirname(build)))


def remove(build: str) -> None:
    """Unmount an image, and remove its units, its directory and, if nobody else has it, its file."""
    note = read_note(build)
    if note is None:
        return
    write_json(note_path(build), {**note, "complete": False})
    names = mount_units.name_units(build)
    mount_units.systemctl("disable", "--now", names[0])
    _, said = mount_units.systemctl("stop", *names)
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(mount_units.DIRECTORY, name))
    # `disable` has removed it, unless somebody removed the unit by hand.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(mount_units.DIRECTORY, "local-fs.target.wants", names[0]))
    mount_units.systemctl("daemon-reload")
    if os.path.ismount(build):
        # Somebody's shell is in it. Its files stay for that, as those of a directory do.
        done = run(["umount", "--lazy", build])
        if done.code:
            raise BuildError(f"The image at {build} could not be unmounted: {said or done.output.strip()}. Run again.")
    # One that is not complete here may be half fetched: the next run goes on there.
    remove_unused(os.path.dirname(os.path.dirname(build)), but=build, keep_partial=not note["complete"])
    os.unlink(note_path(build))
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(build)


def remove_unused(root: str, *, but: str | None = None, keep_partial: bool = False) -> None:
    """Remove files of images that no note names, but that of one build; those that are half fetched only if asked."""
    directory = os.path.join(root, DIRECTORY)
    # Before the notes are read: another run writes the note first.
    files = os.listdir(directory)
    used = set()
    for name in os.listdir(directory):
        build = os.path.join(root, ".builds", name[: -len(MANIFEST_SUFFIX)])
        note = read_note(build) if name.endswith(MANIFEST_SUFFIX) and build != but else None
        used |= {note.get("sha256"), note.get("verity_sha256")} if note else set()
    for name in files:
        stem = name.split(".")[0]
        is_file = name[len(stem) :].startswith((SUFFIX, VERITY_SUFFIX))
        is_kept = stem in used or (keep_partial and name.endswith(_PARTIAL))
        if is_file and not is_kept:
            os.unlink(os.path.join(directory, name))


def find_damage(build: str, sha256: str) -> list[str]:
    """What is wrong with the file of the image that is mounted as the build at this path."""
    path = _file_of(os.path.dirname(os.path.dirname(build)), sha256, SUFFIX)
    try:
        is_whole = digest_of(path).hex() == sha256
    except OSError as error:
        return [f"its image {path} cannot be read: {error.strerror}"]
    return [] if is_whole else [f"its image {path} is not the one that was fetched"]


def facts_of(build: str) -> dict[str, Any]:
    """Of the image that is to be mounted as the build at this path, for the doctor; none if it is no image.

    Reads all of the image.
    """
    note = read_note(build)
    if note is None:
        return {}
    file = _file_of(os.path.dirname(os.path.dirname(build)), note["sha256"], SUFFIX)
    return {
        "image_changed": file if find_damage(build, note["sha256"]) else None,
        "image_not_mounted": None if os.path.ismount(build) else build,
    }


def _file_of(root: str, sha256: str, suffix: str) -> str:
    return os.path.join(root, DIRECTORY, sha256 + suffix)


def _bring(root: str, source: str, suffix: str, sha256: str, size: int) -> str:
    """The path of a file on the node, which has this sha256."""
    # Of http and ssl, which an unchanged node does not need.
    from ..io.downloads import Source, as_url

    path = _file_of(root, sha256, suffix)
    with contextlib.suppress(OSError):
        if digest_of(path).hex() == sha256:
            return path
    url = as_url(source)
    place = Source(url.rpartition("/")[0], name="directory of images", settings="tensorflow_image")
    try:
        place.save(url, path + _PARTIAL, what=f"The image {os.path.basename(source)}", sha256=sha256, size=size)
    except StackError as error:
        # The beginning of it stays if the server is to blame: the next run goes on there.
        if "url" not in error.details:
            with contextlib.suppress(OSError):
                os.unlink(path + _PARTIAL)
        raise
    os.chmod(path + _PARTIAL, 0o444)
    sync_file_system(os.path.dirname(path))
    os.replace(path + _PARTIAL, path)
    sync_directory(os.path.dirname(path))
    return path
