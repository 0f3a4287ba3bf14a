"""Pure: which archives a manifest of NVIDIA's (redistrib_<version>.json) names for one platform."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Mapping, Sequence

from ..errors import StackError

PLATFORMS = {"x86_64": "linux-x86_64", "aarch64": "linux-sbsa"}
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Archive:
    """One file below the base URL; `bytes` is None where nobody wrote its size down."""

    component: str
    version: str
    relative_path: str
    sha256: str
    bytes: int | None = None

    @property
    def name(self) -> str:
        return self.relative_path.rpartition("/")[2]

    @property
    def row(self) -> dict[str, Any]:
        return asdict(self)


def check_archive(row: Mapping[str, Any]) -> Archive:
    """The row as an archive; raises StackError for one that cannot be fetched safely."""
    component, path = str(row.get("component") or ""), str(row.get("relative_path") or "")
    if not re.match(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z", component):
        raise StackError(f"The archive {path!r} is of component {component!r}, which is not a component's name.")
    if not path or path.startswith("/") or ".." in path.split("/") or ":" in path or "\\" in path:
        raise StackError(f"The archive of {component} has relative_path {path!r}, which is no path below the base URL.")
    sha256 = str(row.get("sha256") or "").lower()
    if not _SHA256.match(sha256):
        found = f"{sha256!r} is no sha256" if sha256 else "it has no sha256"
        raise StackError(
            f"The archive {path} of {component} is refused: {found}. Only archives with a known hash are unpacked: "
            "set the sha256 from NVIDIA's manifest."
        )
    size = row.get("bytes")
    if size is not None and not re.fullmatch("[0-9]{1,18}", str(size)):
        raise StackError(f"The archive {path} of {component} has size {size!r}, which is no number of bytes.")
    return Archive(component, str(row.get("version") or ""), path, sha256, None if size is None else int(size))


def read_manifest(
    text: str, *, name: str, platform: str, components: Sequence[str] = (), variant: str | None = None
) -> list[Archive]:
    """The archives of `components` (empty: of all that are there for the platform), sorted by component.

    `variant` is the level that cuDNN 9 has below the platform: cuda11, cuda12. Raises StackError saying what there is.
    """
    try:
        content = json.loads(text)
        rows = {key: row for key, row in content.items() if isinstance(row, dict)}
    except (ValueError, AttributeError, RecursionError) as error:
        raise StackError(f"{name} is no manifest of NVIDIA's: {error}.") from error
    missing = sorted(set(components) - set(rows))
    if missing:
        raise StackError(f"{name} has no component {', '.join(missing)}; it has {', '.join(sorted(rows))}.")
    wanted = {key: rows[key] for key in components} if components else rows
    found = []
    for component, row in sorted(wanted.items()):
        if platform not in row:
            if not components:
                continue
            there = ", ".join(sorted(key for key in row if isinstance(row[key], dict))) or "none"
            raise StackError(f"{name} has {component} not for {platform}; it has it for {there}.")
        file = _file_of(row[platform], f"{name}: {component} for {platform}", variant)
        found.append(
            check_archive(
                {
                    "component": component,
                    "version": row.get("version"),
                    "relative_path": file.get("relative_path"),
                    "sha256": file.get("sha256"),
                    "bytes": file.get("size"),
                }
            )
        )
    if not found:
        raise StackError(f"{name} has nothing for {platform}.")
    return found


def _file_of(row: object, what: str, variant: str | None) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise StackError(f"{what} is described by {str(row)[:40]!r}, which is no file of a manifest.")
    if "relative_path" in row:
        return row
    there = sorted(key for key, value in row.items() if isinstance(value, dict))
    if variant not in there:
        raise StackError(
            f"{what} exists for {', '.join(there) or 'nothing'}, but {variant or 'no variant'} was requested. "
            "Set variant to one of them."
        )
    chosen: Mapping[str, Any] = row[variant]
    return chosen
