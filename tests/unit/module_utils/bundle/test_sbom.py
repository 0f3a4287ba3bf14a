from __future__ import annotations

import json

from ansible.module_utils.tensorflow_stack.bundle.manifest import BundledFile
from ansible.module_utils.tensorflow_stack.bundle.sbom import render_sbom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

FILES = [
    BundledFile("wheels/a-1.whl", "a" * 64, 3, "wheel", "a", "1", "https://index.example/a-1.whl", "MIT OR Apache-2.0"),
    BundledFile("wheels/b-1.whl", "b" * 64, 3, "wheel", "b", "1", None, "Apache Software License"),
    BundledFile("redist/c.tar.xz", "c" * 64, 3, "archive", "cuda_cudart", "11.8", "https://nvidia.example/c"),
    BundledFile("simple/index.html", "d" * 64, 3, "index"),
]


def test_the_validator_of_cyclonedx_takes_it() -> None:
    text = render_sbom(FILES, made_at="2026-11-26T00:00:00Z")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = {row["bom-ref"]: row for row in json.loads(text)["components"]}
    assert components.keys() == {"wheels/a-1.whl", "wheels/b-1.whl", "redist/c.tar.xz"}
    assert components["wheels/a-1.whl"]["purl"] == "pkg:pypi/a@1"
    assert components["wheels/a-1.whl"]["licenses"] == [{"expression": "MIT OR Apache-2.0"}]
    assert components["wheels/a-1.whl"]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]


def test_the_same_files_give_the_same_text() -> None:
    assert render_sbom(FILES, made_at="2026-11-26T00:00:00Z") == render_sbom(FILES, made_at="2026-11-26T00:00:00Z")
