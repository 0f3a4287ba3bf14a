from __future__ import annotations

import json
import multiprocessing
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.errors import BusyError, StackError
from ansible.module_utils.tensorflow_stack.io.flock import exclusive_lock
from ansible.module_utils.tensorflow_stack.records import manifest

EMPTY = {"schema": 1, "environments": {}}


def add(name: str) -> Any:
    def change(content: dict[str, Any]) -> None:
        content["environments"][name] = {"release": "2.8.0", "check": None}

    return change


def test_no_file_is_an_empty_manifest(tmp_path: Path) -> None:
    assert manifest.read(str(tmp_path)) == EMPTY
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_read(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        assert manifest.update(str(tmp_path), add("tensorflow-2.8.0")) is True
    finally:
        os.umask(old)
    assert manifest.read(str(tmp_path))["environments"] == {"tensorflow-2.8.0": {"release": "2.8.0", "check": None}}
    assert stat.S_IMODE((tmp_path / "manifest.json").stat().st_mode) == 0o644
    assert sorted(os.listdir(tmp_path)) == [".locks", "manifest.json"]


def test_an_unchanged_manifest_is_not_rewritten(tmp_path: Path) -> None:
    manifest.update(str(tmp_path), add("tensorflow-2.8.0"))
    before = (tmp_path / "manifest.json").stat()
    assert manifest.update(str(tmp_path), add("tensorflow-2.8.0")) is False
    after = (tmp_path / "manifest.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_change_that_raises_leaves_the_old_manifest(tmp_path: Path) -> None:
    manifest.update(str(tmp_path), add("tensorflow-2.8.0"))

    def change(content: dict[str, Any]) -> None:
        content["environments"].clear()
        raise KeyError("tensorflow-2.10.1")

    with pytest.raises(KeyError):
        manifest.update(str(tmp_path), change)
    assert list(manifest.read(str(tmp_path))["environments"]) == ["tensorflow-2.8.0"]


def test_a_failed_write_leaves_the_old_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest.update(str(tmp_path), add("tensorflow-2.8.0"))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StackError, match=rf"{tmp_path}/manifest.json cannot be written: No space left"):
        manifest.update(str(tmp_path), add("tensorflow-2.10.1"))
    assert list(manifest.read(str(tmp_path))["environments"]) == ["tensorflow-2.8.0"]
    assert sorted(os.listdir(tmp_path)) == [".locks", "manifest.json"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param('{"schema": 1, "environm', "is not JSON", id="cut short"),
        pytest.param("", "is not JSON", id="empty"),
        pytest.param("[]", "is JSON, but not an object", id="not a table"),
        pytest.param('{"schema": 1, "environments": []}', "has no table of environments", id="environments a list"),
        pytest.param('{"schema": 1, "environments": {"a": 1}}', "has no table of environments", id="entry a number"),
        pytest.param('{"schema": 2, "environments": {}}', "has schema 2, this toolkit knows 1", id="newer schema"),
    ],
)
def test_a_damaged_manifest_is_refused_and_kept(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(StackError, match=found) as caught:
        manifest.update(str(tmp_path), add("tensorflow-2.8.0"))
    assert str(path) in caught.value.message
    assert path.read_text() == text


def test_a_damaged_manifest_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StackError, match="Move it away and run the playbook again"):
        manifest.read(str(tmp_path))


def test_a_linked_manifest_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text(json.dumps(EMPTY))
    (tmp_path / "manifest.json").symlink_to(elsewhere)
    with pytest.raises(StackError, match="is a symbolic link"):
        manifest.update(str(tmp_path), add("tensorflow-2.8.0"))
    assert json.loads(elsewhere.read_text()) == EMPTY


def _add_in_turn(root: str, writer: int) -> None:
    for turn in range(20):
        manifest.update(root, add(f"environment-{writer}-{turn}"))


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_add_in_turn, args=(str(tmp_path), writer)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert len(manifest.read(str(tmp_path))["environments"]) == 80


def test_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / ".locks").write_text("")  # also root cannot make the directory
    with pytest.raises(StackError, match="set tensorflow_root to a directory of yours"):
        manifest.update(str(tmp_path), add("tensorflow-2.8.0"))


def test_a_writer_that_is_stopped_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_LOCK_SECONDS", 0)
    with exclusive_lock(str(tmp_path / ".locks" / "manifest"), what="the first run"):
        with pytest.raises(BusyError, match=rf"manifest.json is in use by process {os.getpid()} \(.*\) since"):
            manifest.update(str(tmp_path), add("tensorflow-2.8.0"))


@pytest.mark.parametrize(
    ("recorded", "told", "link", "expected"),
    [
        ("a", "a", "a", "a"),
        pytest.param("a", "a", "b", "b", id="killed between the link and the manifest"),
        pytest.param("b", "a", "a", "b", id="an earlier version applied it, and knows no link"),
        pytest.param(None, "a", "a", None, id="an earlier version removed it"),
        pytest.param("a", "a", None, "a", id="the link is gone"),
    ],
)
def test_what_is_in_use_is_what_was_changed_last(
    recorded: str | None, told: str, link: str | None, expected: str | None
) -> None:
    entries = [{"after": {"environment": told, "build": "1"}}]
    content = {"current": recorded, "history": entries, "has_current_link": True}
    assert manifest.name_in_use(content, link) == expected


def test_a_link_that_is_not_of_this_toolkit_says_nothing() -> None:
    assert manifest.name_in_use({"current": "a"}, "b") == "a"
    assert manifest.name_in_use({}, None) is None


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"environments": {"a": {"asked": []}}}, "has variables of a that this toolkit did not write"),
        ({"environments": {}, "history": {}}, "has a history that this toolkit did not write"),
    ],
)
def test_what_is_new_in_a_manifest_is_checked_as_well(content: dict[str, Any], found: str) -> None:
    assert manifest.find_misfit(content) == found
