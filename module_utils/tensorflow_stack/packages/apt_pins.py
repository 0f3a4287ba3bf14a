"""Pins of apt, and packages that unattended-upgrades leaves as they are."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping

from ..io.reading import read_whole
from .model import without_architecture
from .record import PackagesRecord

_MOST_BYTES = 16 << 20

PREFERENCES = "/etc/apt/preferences.d/tensorflow-gpu-stack-{}.pref"
UNATTENDED = "/etc/apt/apt.conf.d/52tensorflow-gpu-stack"


def render_preferences(record: PackagesRecord) -> str:
    header = (
        f"# Written by the TensorFlow GPU stack for {record.component}; changes are undone by its next run.\n"
        "# No other version is installed, even after the pinned one has left the repository.\n"
    )
    pins = record.held
    return header + "\n" + render_pins(pins) + "\n" + render_pins({name: "*" for name in pins}, priority=-1)


def render_unattended(records: Iterable[PackagesRecord]) -> str | None:
    names = sorted({without_architecture(name) for record in records for name in record.held})
    if not names:
        return None
    rows = "".join('  "^{}$";\n'.format(re.sub(r"([.+])", r"\\\1", name)) for name in names)
    return (
        "// Written by the TensorFlow GPU stack; changes are undone by its next run.\n"
        "// unattended-upgrades leaves exactly these as they are; everything else is upgraded as before.\n"
        f"Unattended-Upgrade::Package-Blacklist {{\n{rows}}};\n"
    )


def render_pins(versions: Mapping[str, str], *, priority: int = 1001) -> str:
    return "\n".join(
        f"Package: {name}\nPin: version {version}\nPin-Priority: {priority}\n"
        for name, version in sorted(versions.items())
    )


def read_foreign_pins() -> str:
    """This node's pins, apart from those of this toolkit, which are about to be written anew."""
    directory = os.path.dirname(PREFERENCES)
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    own = os.path.basename(PREFERENCES).partition("{")[0]
    # The names that apt reads.
    read = [name for name in names if re.fullmatch(r"[\w-]+(\.pref)?", name) and not name.startswith(own)]
    texts = []
    for path in ["/etc/apt/preferences", *(os.path.join(directory, name) for name in read)]:
        with contextlib.suppress(FileNotFoundError):
            texts.append("\n" + read_whole(path, _MOST_BYTES).decode("utf-8", "replace"))
    return "\n".join(texts)
