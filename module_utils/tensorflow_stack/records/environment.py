"""What one environment is to be: its lock, interpreter and CUDA, its identity, and the names that it may have."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from typing import Any

from ..errors import BuildError
from .history import CURRENT_LINK
from .lockfile import Lock

# Bump when the layout of a build changes, so that every environment is rebuilt once.
_LAYOUT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\Z")
# Other things below the root have these names, or their locks and logs.
_RESERVED = {CURRENT_LINK, "manifest", "manifest.json", "python", "pythons"}


@dataclass(frozen=True)
class EnvironmentSpec:
    """Everything that makes one environment what it is; `digest` is its identity."""

    name: str
    root: str
    release: str
    flavour: str
    python: str
    lock: Lock
    cuda: dict[str, Any] | None = None
    cudnn: dict[str, Any] | None = None
    # Directories whose libraries TensorFlow's own loader path does not reach. Relative ones are below
    # site-packages and may hold `*`.
    library_directories: tuple[str, ...] = ()
    # CUDA_VISIBLE_DEVICES of its Python, in PCI order, if some GPUs of the node are not for it.
    visible_gpus: str | None = None
    # The plan's image of this environment, which is mounted instead of built.
    image: dict[str, Any] | None = None

    def is_made_of(self, record: dict[str, Any] | None) -> bool:
        """Whether a build with this record is the wanted environment, from the wanted image if one is named."""
        if record is None or record["digest"] != self.digest:
            return False
        return self.image is None or record.get("image") == self.image["sha256"]

    @property
    def path(self) -> str:
        return os.path.join(self.root, self.name)

    @property
    def cuda_prefixes(self) -> tuple[str, ...]:
        """Where a CUDA of the node lies; () for one of wheels."""
        planned = (self.cuda or {}).get("prefix")
        beside = (os.path.dirname(directory) for directory in self.library_directories if os.path.isabs(directory))
        return ((planned,) if planned else ()) + tuple(beside)

    @property
    def digest(self) -> str:
        return environment_digest(
            lock_sha256=self.lock.sha256,
            python=self.python,
            library_directories=self.library_directories,
            added=self.lock.added,
            visible_gpus=self.visible_gpus,
        )


def environment_digest(
    *,
    lock_sha256: str,
    python: str,
    library_directories: tuple[str, ...],
    added: tuple[str, ...] = (),
    visible_gpus: str | None = None,
) -> str:
    """Identity of an environment: sha256 over its lock, interpreter, libraries, additions to the lock, and GPUs.

    The added requirements count apart from what they came to: a build's record says which they are. Without added ones
    and hidden GPUs, the identity is that of earlier versions of this toolkit.
    """
    identity = [_LAYOUT, lock_sha256, python, list(library_directories), *([list(added)] if added else [])]
    if visible_gpus is not None:
        identity.append(visible_gpus)
    return hashlib.sha256(json.dumps(identity).encode("utf-8")).hexdigest()


def check_name(name: str) -> None:
    """Raises BuildError for a name that no environment may have."""
    if not _NAME.match(name) or name in _RESERVED:
        raise BuildError(
            f"{name!r} is no name for an environment: letters, digits and . _ + - only, a letter or digit first, and "
            f"none of {', '.join(sorted(_RESERVED))}. Set tensorflow_environment to another."
        )
