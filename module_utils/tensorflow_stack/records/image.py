"""An environment as one image: its files, and its manifest.

<stem>.squashfs  a build, as it was proven
<stem>.verity    the hash tree of dm-verity for it, as `veritysetup format` writes it
<stem>.json      the manifest; <stem>.json.sig (ssh-keygen) or <stem>.json.asc (gpg) is its signature
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import StackError
from ..io.reading import parse_object

_SCHEMA = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HASHES = ("digest", "lock_sha256", "sha256", "verity_sha256", "root_hash")
_TEXT = {"type": "str", "required": True}
_SIZE = {"type": "int", "required": True}
# Of a plan's image, as options of tensorflow_venv.
IMAGE_OPTIONS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("source", "sha256", "verity_sha256", "root_hash"), _TEXT),
    **dict.fromkeys(("bytes", "verity_bytes"), _SIZE),
    "protection": {"choices": ["compared", "dm-verity"], **_TEXT},
}


@dataclass(frozen=True)
class ImageManifest:
    """The environment in an image, and its files; `digest` is the identity of the build that was packed."""

    name: str
    root: str
    release: str
    flavour: str
    digest: str
    lock_sha256: str
    minor: str
    python: str  # path of the interpreter, which is not in the image
    sha256: str
    bytes: int
    verity_sha256: str
    verity_bytes: int
    root_hash: str


def render_manifest(manifest: ImageManifest) -> str:
    return json.dumps({"schema": _SCHEMA, **asdict(manifest)}, indent=1, sort_keys=True) + "\n"


def parse_manifest(text: str, *, where: str) -> ImageManifest:
    """The manifest that `text` is; StackError says what is wrong with it."""
    try:
        content = parse_object(text)
        schema = content.pop("schema", None)
        if schema != _SCHEMA:
            raise ValueError(f"it is of schema {schema}, and this toolkit reads {_SCHEMA}")
        manifest = ImageManifest(**content)
        for key, kind in ImageManifest.__annotations__.items():
            value = getattr(manifest, key)
            if type(value).__name__ != kind or (kind == "int" and value < 0):
                raise ValueError(f"its {key} is {value!r}")
            if key in _HASHES and not _SHA256.fullmatch(value):
                raise ValueError(f"its {key} is no sha256")
        if not os.path.isabs(manifest.root) or not os.path.isabs(manifest.python):
            raise ValueError("its root or interpreter is no absolute path")
    except (ValueError, TypeError) as error:
        raise StackError(
            f"The manifest of the image {where} cannot be read ({error}). Copy the image again, or pack it again with "
            "make image."
        ) from error
    return manifest
