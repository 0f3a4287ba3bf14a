"""The manifest of a bundle: what is in it, from where, under which license; schema: bundle.schema.json. Pure.

<bundle>/manifest.json             written last; manifest.json.sig (ssh-keygen) or .asc (gpg) is its signature
<bundle>/sbom.cdx.json             the same files for programs that read CycloneDX
<bundle>/simple/<project>/         a package index: index.html (PEP 503) and index.json (PEP 691)
<bundle>/wheels/                   its files
<bundle>/python/<tag>/             the releases of python-build-standalone
<bundle>/redist/                   NVIDIA's archives, by their paths below its server
<bundle>/repositories/<name>/      package repositories of apt and dnf, signed by whom they are from
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import StackError
from ..io.reading import parse_object

MANIFEST = "manifest.json"
SBOM = "sbom.cdx.json"
SIGNATURES = {"ssh": f"{MANIFEST}.sig", "gpg": f"{MANIFEST}.asc"}
# What a bundle cannot name as one of its files.
OWN_FILES = {MANIFEST, *SIGNATURES.values()}
KINDS = ("wheel", "source", "python", "archive", "package", "index", "sbom")
_SCHEMA = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class BundledFile:
    """`path` is below the bundle; `source` is the URL that it is from, without credentials, null if it was made."""

    path: str
    sha256: str
    bytes: int
    kind: str
    name: str = ""
    version: str | None = None
    source: str | None = None
    license: str | None = None


@dataclass(frozen=True)
class PlannedFor:
    """A plan that the bundle was made for."""

    host: str
    release: str
    flavour: str
    python: str
    architecture: str


@dataclass(frozen=True)
class BundleManifest:
    made_at: str
    plans: tuple[PlannedFor, ...]
    files: tuple[BundledFile, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @functools.cached_property
    def by_path(self) -> dict[str, BundledFile]:
        return {file.path: file for file in self.files}

    @functools.cached_property
    def by_sha256(self) -> dict[str, BundledFile]:
        return {file.sha256: file for file in self.files}

    def of_kind(self, *kinds: str) -> list[BundledFile]:
        return [file for file in self.files if file.kind in kinds]


def render_manifest(manifest: BundleManifest) -> str:
    content = {
        "schema": _SCHEMA,
        "made_at": manifest.made_at,
        "plans": [asdict(plan) for plan in manifest.plans],
        "files": [asdict(file) for file in sorted(manifest.files, key=lambda file: file.path)],
    }
    return json.dumps(content, indent=1) + "\n"


def parse_manifest(text: str, *, where: str) -> BundleManifest:
    """The manifest that `text` is; StackError says what is wrong with it."""
    try:
        content = parse_object(text)
        if content["schema"] != _SCHEMA:
            raise StackError(
                f"The bundle {where} has a manifest of schema {content['schema']}, and this toolkit reads {_SCHEMA}. "
                "Make the bundle again with make bundle."
            )
        return BundleManifest(
            str(content["made_at"]),
            tuple(_read_plan(row) for row in content["plans"]),
            tuple(_read_file(row) for row in content["files"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StackError(
            f"The manifest of the bundle {where} cannot be read ({error}). Copy the bundle again, or make it again "
            "with make bundle."
        ) from error


def _read_plan(row: Mapping[str, Any]) -> PlannedFor:
    plan = PlannedFor(**row)
    if not all(isinstance(value, str) for value in row.values()):
        raise ValueError(f"{row} is no plan")
    return plan


def _read_file(row: Mapping[str, Any]) -> BundledFile:
    file = BundledFile(**row)
    texts = [file.path, file.sha256, file.kind, file.name, *filter(None, (file.version, file.source, file.license))]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{row} is no file")
    if not is_inside(file.path) or file.path in OWN_FILES:
        raise ValueError(f"{file.path!r} is no path of a file in a bundle")
    if not _SHA256.fullmatch(file.sha256) or type(file.bytes) is not int or file.bytes < 0:
        raise ValueError(f"{file.path} has no sha256 and size")
    return file


def is_inside(path: str) -> bool:
    """Whether a path of the manifest leads to a place below the bundle."""
    parts = path.split("/")
    return not {"", ".", ".."} & set(parts) and not re.search(r"[\0-\x1f\\]", path)


def merge_files(before: Iterable[BundledFile], added: Iterable[BundledFile]) -> tuple[BundledFile, ...]:
    """Of both, by path; what was added now counts."""
    merged = {file.path: file for file in [*before, *added]}
    return tuple(merged[path] for path in sorted(merged))
