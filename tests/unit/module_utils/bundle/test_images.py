"""The manifest of an image on a web server: read with its signature, refused without."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.bundle import images, signing
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.records.image import ImageManifest, render_manifest

from tests.needs import require
from tests.repositories.serve import serve
from tests.unit.module_utils.bundle.test_signing import ssh_key

HASH = "1" * 64
IMAGE = ImageManifest(
    "tf", "/opt/tensorflow", "2.8.0", "cpu", HASH, HASH, "3.9", "/usr/bin/python3.9", HASH, 8, HASH, 2, HASH
)


def test_a_manifest_is_read_with_the_signature_beside_it(tmp_path: Path) -> None:
    require("openssh-client")
    served = tmp_path / "served"
    served.mkdir()
    (served / "tf.json").write_text(render_manifest(IMAGE), encoding="utf-8")
    key = ssh_key(tmp_path / "key")
    signers = tmp_path / "signers"
    signers.write_text(f"site@example.org {(tmp_path / 'key.pub').read_text()}")
    with serve(served) as server:
        place = f"{server.url}/tf.squashfs"
        assert images.read_image(place, signers=None)["root_hash"] == HASH
        with pytest.raises(StackError, match=rf"{place} is not signed, and stack_bundle_signers names keys of ssh"):
            images.read_image(place, signers=str(signers))
        signing.sign(str(served), str(key), "tf.json")
        found = images.read_image(place, signers=str(signers))
        assert (found["source"], found["sha256"]) == (place, HASH)
        server.faults = ["tamper:/tf.json"]
        with pytest.raises(StackError, match=rf"{place} is not signed by a key in"):
            images.read_image(place, signers=str(signers))
        server.faults = ["404:/tf.json"]
        with pytest.raises(StackError, match=r"The manifest tf\.json cannot be fetched: the directory of images"):
            images.read_image(place, signers=None)
