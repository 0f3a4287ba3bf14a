"""The bill of materials of a bundle, in CycloneDX, by the CycloneDX library."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import StackError
from .manifest import BundledFile

_PURL_TYPES = {"wheel": "pypi", "source": "pypi"}


def render_sbom(files: Iterable[BundledFile], *, made_at: str) -> str:
    """A component for each file that is not made by the bundle itself; the same files give the same text."""
    try:
        from cyclonedx.model import HashAlgorithm, HashType  # noqa: F401  # says early whether it is there
    except ImportError as error:
        raise StackError(
            "The bill of materials needs the library cyclonedx-python-lib, which is in requirements/bundle.txt. Run "
            "make bundle, which installs it, or pip install -r requirements/bundle.txt."
        ) from error
    from datetime import datetime
    from uuid import NAMESPACE_URL, uuid5

    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    ones = [file for file in files if file.kind not in ("index", "sbom")]
    bom = Bom(components=[_component(file) for file in ones])
    digests = ",".join(sorted(file.sha256 for file in ones))
    bom.serial_number = uuid5(NAMESPACE_URL, f"{made_at} {digests}")
    bom.metadata.timestamp = datetime.fromisoformat(made_at.replace("Z", "+00:00"))
    bom.metadata.component = Component(
        name="tensorflow-gpu-stack-bundle", type=ComponentType.APPLICATION, bom_ref="bundle"
    )
    bom.register_dependency(bom.metadata.component, list(bom.components))
    return str(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)) + "\n"


def _component(file: BundledFile) -> Any:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    purl = PackageURL(_PURL_TYPES[file.kind], None, file.name, file.version) if file.kind in _PURL_TYPES else None
    references = (
        [ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(file.source))] if file.source else []
    )
    return Component(
        type=ComponentType.LIBRARY if file.kind in _PURL_TYPES else ComponentType.FILE,
        name=file.name or file.path,
        version=file.version,
        purl=purl,
        bom_ref=file.path,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=file.sha256)],
        licenses=[LicenseFactory().make_from_string(file.license)] if file.license else [],
        external_references=references,
    )
