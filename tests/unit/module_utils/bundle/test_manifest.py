from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible.module_utils.tensorflow_stack.bundle.manifest import (
    KINDS,
    BundledFile,
    BundleManifest,
    PlannedFor,
    merge_files,
    parse_manifest,
    render_manifest,
)
from ansible.module_utils.tensorflow_stack.errors import StackError

SCHEMA = json.loads(
    (Path(__file__).parents[4] / "roles/tensorflow_release/files/bundle.schema.json").read_text(encoding="utf-8")
)
FILE = BundledFile("wheels/a-1.whl", "a" * 64, 3, "wheel", "a", "1", "https://index.example/a-1.whl", "MIT")
MANIFEST = BundleManifest("2026-11-26T00:00:00Z", (PlannedFor("n1", "2.8.0", "cpu", "3.10", "x86_64"),), (FILE,))


def test_what_is_written_is_read_and_has_the_schemas_shape() -> None:
    text = render_manifest(MANIFEST)
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(text))
    assert parse_manifest(text, where="here") == MANIFEST
    assert SCHEMA["properties"]["files"]["items"]["properties"]["kind"]["enum"] == list(KINDS)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"path": "../../etc/passwd"}, "is no path of a file in a bundle"),
        ({"path": "/etc/passwd"}, "is no path of a file in a bundle"),
        ({"path": "manifest.json"}, "is no path of a file in a bundle"),
        ({"sha256": "x"}, "has no sha256 and size"),
        ({"bytes": -1}, "has no sha256 and size"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_file_that_cannot_be_one_is_refused(change: dict[str, Any], why: str) -> None:
    content = json.loads(render_manifest(MANIFEST))
    content["files"][0].update(change)
    with pytest.raises(StackError, match=f"The manifest of the bundle here cannot be read .*{why}"):
        parse_manifest(json.dumps(content), where="here")


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"schema": 1}'])
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(StackError, match="The manifest of the bundle here cannot be read"):
        parse_manifest(text, where="here")


def test_a_manifest_of_another_schema_says_what_to_do() -> None:
    with pytest.raises(StackError, match="has a manifest of schema 2, and this toolkit reads 1. Make the bundle again"):
        parse_manifest('{"schema": 2}', where="here")


def test_what_was_added_last_counts() -> None:
    newer = BundledFile("wheels/a-1.whl", "b" * 64, 4, "wheel")
    other = BundledFile("wheels/b-1.whl", "c" * 64, 5, "wheel")
    assert merge_files([FILE, other], [newer]) == (newer, other)
