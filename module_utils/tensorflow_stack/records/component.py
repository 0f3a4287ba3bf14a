"""The components that this toolkit installs on a node's system, and the record of each: `<component>.json`.

A new component costs a row of COMPONENTS, a function in `planning` that chooses it, and a role that installs it.
"""

from __future__ import annotations

import os
import re
from typing import Any, Mapping, NamedTuple

# Everything that this toolkit records of a system.
STATE_DIRECTORY = "/etc/tensorflow-gpu-stack"

PACKAGES = "packages"
ARCHIVES = "archives"

# Of CUDA and cuDNN it is what their packages say: 11.8.89~11.8.0.
_LIBRARY_VERSION = r"[0-9][0-9A-Za-z.+~-]{0,99}"


class Component(NamedTuple):
    name: str  # in records, modules and plans
    label: str  # for a person
    role: str  # that installs it
    version_pattern: str  # a regular expression
    is_library: bool  # TensorFlow opens it: as packages or as NVIDIA's archives, and looked for by its files


# In the order in which they are installed.
COMPONENTS = (
    Component(
        "driver",
        label="driver",
        role="nvidia_driver",
        version_pattern=r"[0-9]{1,9}(\.[0-9]{1,9}){0,9}",
        is_library=False,
    ),
    Component("cuda", label="CUDA", role="cuda_toolkit", version_pattern=_LIBRARY_VERSION, is_library=True),
    Component("cudnn", label="cuDNN", role="cudnn", version_pattern=_LIBRARY_VERSION, is_library=True),
)
LIBRARIES = tuple(component for component in COMPONENTS if component.is_library)


def record_path(component: str, directory: str = STATE_DIRECTORY) -> str:
    return os.path.join(directory, f"{component}.json")


def kind_of(record: Mapping[str, Any]) -> str:
    """PACKAGES or ARCHIVES: what the component was installed from."""
    return ARCHIVES if record.get("source") == "redist" else PACKAGES


def is_record_of(component: Component, content: Mapping[str, Any]) -> bool:
    """Can this toolkit have written it? Asked of the fields that a plan is made from."""
    asked = content.get("asked", {})
    wishes: Mapping[str, Any] = asked if isinstance(asked, dict) else {"packages": None}
    lists = [content.get("packages", []), wishes.get("packages", [])]
    rows: list[Any] = [row for found in lists for row in (found if isinstance(found, list) else [None])]
    version = content.get("version")
    return (
        isinstance(content.get("source"), str)
        and isinstance(version, str)
        and re.fullmatch(component.version_pattern, version) is not None
        and all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows)
        and all(row.get("version") is None or isinstance(row["version"], str) for row in rows)
    )


def upstream_version(version: str) -> str:
    """What the packaged software calls itself: 535.309.01 for 535.309.01-0+deb12u1 and for 3:535.309.01-1.el8."""
    return re.sub(r"^\d+:|-[^-]*$", "", version)
