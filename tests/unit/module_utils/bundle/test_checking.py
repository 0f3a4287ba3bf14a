from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.bundle import checking
from ansible.module_utils.tensorflow_stack.bundle.manifest import BundledFile, BundleManifest, render_manifest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.io.downloads import Source

from tests.repositories.serve import Server, serve

TEXTS = {"wheels/a-1.whl": "first", "wheels/b-1.whl": "second"}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    files = []
    for path, text in TEXTS.items():
        place = tmp_path / "bundle" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        files.append(BundledFile(path, hashlib.sha256(text.encode()).hexdigest(), len(text), "wheel", path[7]))
    (tmp_path / "bundle" / "manifest.json").write_text(
        render_manifest(BundleManifest("2026-11-26T00:00:00Z", (), tuple(files)))
    )
    return tmp_path / "bundle"


@pytest.fixture
def server(bundle: Path) -> Iterator[Server]:
    with serve(bundle) as running:
        yield running


@pytest.fixture(params=["directory", "server"])
def place(request: pytest.FixtureRequest, bundle: Path, server: Server) -> str:
    return str(bundle) if request.param == "directory" else server.url


def faults(place: str, tools: Path | None = None) -> list[str]:
    opened = checking.open_bundle(place)
    return checking.find_damaged(opened, opened.manifest.files, tools=str(tools) if tools else None)


def test_a_whole_bundle_has_no_fault(place: str, tmp_path: Path) -> None:
    assert faults(place) == []
    assert faults(place, tmp_path / "tools") == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "wheels/b-1.whl"),
        (lambda path: path.write_text("sec"), "wheels/b-1.whl in the bundle .* with 3 bytes, not 6"),
        (lambda path: path.write_text("SECOND"), "wheels/b-1.whl .*expected .*sha256"),
    ],
    ids=["missing", "cut", "swapped"],
)
def test_a_file_that_is_not_what_the_manifest_says_is_named(
    bundle: Path, place: str, tmp_path: Path, damage, said: str
) -> None:
    assert faults(place, tmp_path / "tools") == []
    damage(bundle / "wheels/b-1.whl")
    # A server says the time of a file to the second.
    if (bundle / "wheels/b-1.whl").exists():
        os.utime(bundle / "wheels/b-1.whl", (1, 1))
    for found in (faults(place), faults(place, tmp_path / "tools")):
        assert len(found) == 1
        assert re.search(said, found[0]), found


def test_what_was_compared_once_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    assert faults(server.url, tmp_path / "tools") == []
    server.requests.clear()
    assert faults(server.url, tmp_path / "tools") == []
    # One for each file, which are HEAD and have no body, beside the manifest.
    assert sorted(server.requests) == ["200 /manifest.json", "200 /wheels/a-1.whl", "200 /wheels/b-1.whl"]


def test_a_server_without_marks_is_asked_for_the_file_each_time(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Source, "state_of", lambda self, url, what: {"bytes": None, "marks": ["", ""]})
    for _ in range(2):
        server.requests.clear()
        assert faults(server.url, tmp_path / "tools") == []
        assert server.requests.count("200 /wheels/a-1.whl") == 1


def test_no_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=f"The manifest cannot be fetched: the bundle file://{tmp_path} answers"):
        checking.open_bundle(str(tmp_path))


def test_credentials_are_refused() -> None:
    with pytest.raises(StackError, match="stack_bundle_url contains credentials"):
        checking.open_bundle("https://ada:secret@bundle.example")
