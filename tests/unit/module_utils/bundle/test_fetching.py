from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.bundle.fetching import Shelf, Wanted
from ansible.module_utils.tensorflow_stack.bundle.manifest import BundledFile, BundleManifest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.io.downloads import Source

BODY = b"a wheel"
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def wanted(tmp_path: Path) -> Wanted:
    (tmp_path / "server").mkdir()
    (tmp_path / "server/a.whl").write_bytes(BODY)
    source = Source((tmp_path / "server").as_uri(), name="package index", settings="tensorflow_index_url")
    return Wanted("wheels/a.whl", f"{source.shown}/a.whl", SHA256, len(BODY), source, "wheel", "a", "1")


def test_a_file_is_fetched_once(tmp_path: Path, wanted: Wanted) -> None:
    shelf = Shelf(str(tmp_path / "bundle"))
    shelf.bring(wanted)
    assert (tmp_path / "bundle/wheels/a.whl").read_bytes() == BODY
    (tmp_path / "server/a.whl").unlink()
    again = Shelf(str(tmp_path / "bundle"))
    again.bring(wanted)
    assert (shelf.fetched_bytes, again.fetched_bytes) == (len(BODY), 0)


def test_a_damaged_file_is_fetched_again(tmp_path: Path, wanted: Wanted) -> None:
    Shelf(str(tmp_path / "bundle")).bring(wanted)
    (tmp_path / "bundle/wheels/a.whl").write_bytes(b"A WHEEL")
    Shelf(str(tmp_path / "bundle")).bring(wanted)
    assert (tmp_path / "bundle/wheels/a.whl").read_bytes() == BODY


def test_another_file_than_the_pinned_one_is_left_out(tmp_path: Path, wanted: Wanted) -> None:
    (tmp_path / "server/a.whl").write_bytes(b"A WHEEL")
    with pytest.raises(StackError, match="wheels/a.whl from .* is not the pinned file"):
        Shelf(str(tmp_path / "bundle")).bring(wanted)
    assert os.listdir(tmp_path / "bundle/wheels") == []


def test_an_older_bundle_is_linked_and_not_trusted(tmp_path: Path, wanted: Wanted) -> None:
    older = tmp_path / "older"
    (older / "wheels").mkdir(parents=True)
    (older / "wheels/a.whl").write_bytes(BODY)
    manifest = BundleManifest("", (), (BundledFile("wheels/a.whl", SHA256, len(BODY), "wheel"),))
    shelf = Shelf(str(tmp_path / "bundle"), ((str(older), manifest),))
    assert shelf.can_reuse(SHA256)
    shelf.bring(wanted)
    assert (tmp_path / "bundle/wheels/a.whl").samefile(older / "wheels/a.whl")
    assert (shelf.fetched_bytes, shelf.reused_bytes) == (0, len(BODY))
    (older / "wheels/a.whl").write_bytes(b"A WHEEL")  # of both, since they are one
    again = Shelf(str(tmp_path / "bundle"), ((str(older), manifest),))
    again.bring(wanted)
    assert (tmp_path / "bundle/wheels/a.whl").read_bytes() == BODY
    assert again.fetched_bytes == len(BODY)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, wanted: Wanted) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/wheels").write_text("a file")
    with pytest.raises(StackError, match="wheels/a.whl cannot be written: .*what was fetched is kept"):
        Shelf(str(tmp_path / "bundle")).bring(wanted)
