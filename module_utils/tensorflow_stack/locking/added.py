"""What one environment has beside its release and requirements file: `make add`, and additions that are carried. Pure.

Such a lock is the base lock (that of the release or of the file) resolved once more, together with these lines. What it
is made from is the base as it is and the lines: a new base or another line is another lock.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ..records.lockfile import Lock
from ..requirements.parse import UserRequirement, UserRequirements
from .inputs import LockRequest

_FORMAT = 1
_SHOWN = 8


@dataclass(frozen=True)
class Added:
    """`pins` are versions of what `lines` need, which hold for this resolution; later ones only prefer them.

    `to` is the environment, as people know it; `base` the path of the base lock, None if it has to be made.

    `versions` are those of the environment in use, which stay if they fit. `listings` are of what was found in it:
    the index must have the same files under the same name and version.
    """

    lines: tuple[str, ...]
    pins: tuple[str, ...]
    to: str
    directory: str
    base: str | None
    versions: Mapping[str, str]
    listings: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """As the option `added` of tensorflow_lock."""
        return {**self.__dict__, "lines": list(self.lines), "pins": list(self.pins), "versions": dict(self.versions)}


def project_of(line: str) -> str:
    return str(canonicalize_name(Requirement(line).name))


def shortened(texts: Sequence[str]) -> str:
    """For a message: the first of them, and how many more."""
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def added_inputs_sha256(base: Lock, lines: Sequence[str]) -> str:
    identity = {"format": _FORMAT, "base": [base.inputs_sha256, base.sha256], "added": sorted(lines)}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def added_path(directory: str, base: Lock, lines: Sequence[str]) -> str:
    """Where a lock with added lines is, below the inventory's directory of locks."""
    tag = "cp" + base.python.replace(".", "")
    name = f"{tag}-{base.platform}-{base.flavour}-{added_inputs_sha256(base, lines)[:12]}.txt"
    return os.path.join(directory, "added", f"tensorflow-{base.release}", name)


def added_request(request: LockRequest, added: Added) -> LockRequest:
    """The request of the base lock with the added lines among the user's."""
    file = request.requirements
    where = f"added to {added.to}"
    lines, pins = (
        [UserRequirement(Requirement(line), where, 0) for line in kind] for kind in (added.lines, added.pins)
    )
    merged = UserRequirements(
        path=file.path if file else where,
        requirements=[*(file.requirements if file else ()), *lines],
        constraints=[*(file.constraints if file else ()), *pins],
    )
    return replace(request, requirements=merged)
