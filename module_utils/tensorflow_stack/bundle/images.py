"""Reads the manifest of an image (make image), which the site signs as it signs a bundle."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from ..errors import StackError
from ..io.downloads import Source, as_url, has_credentials
from ..records.image import parse_manifest
from ..records.image_note import MANIFEST_SUFFIX, MOST_BYTES, SUFFIX
from .signing import check_signature, name_signatures


def read_image(place: str, *, signers: str | None) -> dict[str, Any]:
    """What the manifest beside an image says, and `source`, where the image is. Raises StackError."""
    if not place.endswith(SUFFIX):
        raise StackError(
            f"tensorflow_image is {place!r}. Set it to the path or URL of an image, which ends with {SUFFIX}; its "
            "manifest is beside it."
        )
    if has_credentials(as_url(place)):
        raise StackError(
            "tensorflow_image contains credentials, which the output of every task would show. Put them into ~/.netrc "
            "(mode 0600) of the user who runs the tasks."
        )
    url = as_url(place)[: -len(SUFFIX)] + MANIFEST_SUFFIX
    source = Source(url.rpartition("/")[0], name="directory of images", settings="tensorflow_image")
    body = source.get(url, what=f"The manifest {os.path.basename(url)}", limit=MOST_BYTES).body
    if signers:
        answers = {
            kind: source.find(name, what="The signature", limit=MOST_BYTES)
            for kind, name in name_signatures(url).items()
        }
        signatures = {kind: answer.body for kind, answer in answers.items() if answer is not None}
        check_signature(body, signatures, signers, where=place, what="image")
    return {"source": place, **asdict(parse_manifest(body.decode("utf-8", "replace"), where=place))}
