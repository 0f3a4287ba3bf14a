"""The systemd units of an image: one that mounts it, after another one has proven what is mounted.

With dm-verity the kernel compares each block when it is read. Without it, the whole image is compared with its sha256
each time before it is mounted, also at each boot.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ..errors import BuildError
from ..io.commands import c_locale, run

DIRECTORY = "/etc/systemd/system"
# What a unit and a list of sha256sum can hold without quoting.
_PLAIN = re.compile(r"[A-Za-z0-9/._+@:,=~-]+")
_SECONDS = 300.0


class Units(NamedTuple):
    """Their names, and the text of each."""

    mount: str
    proof: str
    texts: dict[str, str]


def mapped_name(build: str) -> str:
    """Of the device that dm-verity shows."""
    return os.path.basename(build)


def name_units(build: str) -> tuple[str, str]:
    """Of the build at this path: systemd wants a mount unit to be named after its path."""
    if not _PLAIN.fullmatch(build):
        raise BuildError(
            f"An image cannot be mounted at {build}: systemd's units need a path of letters, digits and ._+@:,=~-. "
            "Set tensorflow_root to one."
        )
    done = run(["systemd-escape", "--path", build], timeout=_SECONDS)
    if done.code:
        raise BuildError(f"systemd-escape does not name a unit for {build}: {done.output.strip()}")
    name = done.output.strip()
    return f"{name}.mount", f"{name}.service"


def make_units(build: str, image: str, *, sha256: str, verity: str | None, root_hash: str) -> Units:
    """For the image at a path, to be mounted as the build at a path. `verity` is its hash tree, for dm-verity."""
    mount, proof = name_units(build)
    if verity is None:
        what, options = image, "ro,nodev,nosuid,loop"
        command = [
            f"ExecStart={_program('sha256sum')} --check --status -",
            "StandardInput=data",
            f"StandardInputText={sha256}  {image}",
        ]
    else:
        what, options = f"/dev/mapper/{mapped_name(build)}", "ro,nodev,nosuid"
        veritysetup = _program("veritysetup")
        command = [
            f"ExecStart={veritysetup} open {image} {mapped_name(build)} {verity} {root_hash}",
            f"ExecStop={veritysetup} close --deferred {mapped_name(build)}",
        ]
    proof_lines = [
        "# Made by the TensorFlow GPU Stack; make remove removes it.",
        "[Unit]",
        f"Description=Image of {build} is what its manifest says",
        # It is for a mount of the early boot.
        "DefaultDependencies=no",
        "Conflicts=umount.target",
        "Before=umount.target",
        f"RequiresMountsFor={image}",
        "StopWhenUnneeded=yes",
        "",
        "[Service]",
        "Type=oneshot",
        "RemainAfterExit=yes",
        *command,
    ]
    mount_lines = [
        "# Made by the TensorFlow GPU Stack; make remove removes it.",
        "[Unit]",
        f"Description=Image of {build}",
        f"Requires={proof}",
        f"After={proof}",
        "",
        "[Mount]",
        f"What={what}",
        f"Where={build}",
        "Type=squashfs",
        f"Options={options}",
        "",
        "[Install]",
        "WantedBy=local-fs.target",
    ]
    texts = {proof: "\n".join([*proof_lines, ""]), mount: "\n".join([*mount_lines, ""])}
    return Units(mount, proof, texts)


def systemctl(*arguments: str) -> tuple[int | None, str]:
    """The exit status of systemctl, and what it said."""
    done = run(["systemctl", "--no-pager", *arguments], env=c_locale(), timeout=_SECONDS)
    return done.code, done.output.strip()


def _program(name: str) -> str:
    for directory in ("/usr/bin", "/usr/sbin", "/bin", "/sbin"):
        if os.access(os.path.join(directory, name), os.X_OK):
            return os.path.join(directory, name)
    raise BuildError(f"There is no {name} in /usr/bin or /usr/sbin, which proves an image before it is mounted.")
