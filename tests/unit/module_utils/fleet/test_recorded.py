"""The state of a fleet from the controller's records, and the files that are made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.fleet import files, recorded, reporting

from tests import fleets
from tests.unit.module_utils.fleet.test_summary import SCHEMA

LATER, EARLIER = "2026-11-26T11:00:00Z", "2026-11-26T09:00:00Z"


def report(host: str, written_at: str, error: str | None = None) -> dict[str, Any]:
    made = fleets.report_of(fleets.plan_of(), "ok" if error is None else "wrong_numbers", error)
    return {**made, "schema": 1, "host": host, "written_at": written_at}


def state(directory: Path, host: str) -> tuple[str, str | None]:
    made = recorded.recorded(str(directory), [host], written_at=LATER)
    jsonschema.validate(made, json.loads(SCHEMA.read_text()))
    return made["nodes"][0]["state"], made["nodes"][0]["cause"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """As a run left it in which gpu18 of 40 failed and is drained."""
    files.write_record(str(tmp_path), fleets.fleet(40))
    (tmp_path / "drained").mkdir()
    (tmp_path / "drained" / "gpu18.example.org").write_text(EARLIER)
    return tmp_path


def test_record_of_the_run_is_kept(directory: Path) -> None:
    hosts = [node["host"] for node in fleets.fleet(40)["nodes"]]
    made = recorded.recorded(str(directory), hosts, written_at=LATER)
    assert made["counts"] == fleets.fleet(40)["counts"]
    assert (made["source"], made["written_at"]) == ("recorded", LATER)
    assert [node["host"] for node in made["nodes"] if node["drained_since"]] == ["gpu18.example.org"]


def test_newer_report_of_a_node_counts(directory: Path) -> None:
    """As after `make workstation` or `make verify` for one node."""
    for host, error in (("gpu18.example.org", None), ("gpu01.example.org", "It computed 2 + 2 = 5.")):
        (directory / f"{host}.json").write_text(json.dumps(report(host, LATER, error)))
    assert state(directory, "gpu18.example.org") == ("proven", None)
    assert state(directory, "gpu01.example.org") == ("failed", "It computed 2 + 2 = 5.")


def test_older_report_of_a_node_does_not(directory: Path) -> None:
    (directory / "gpu18.example.org.json").write_text(json.dumps(report("gpu18.example.org", EARLIER)))
    assert state(directory, "gpu18.example.org") == ("failed", fleets.CAUSE["says"])


def test_node_without_any_record_is_unknown(directory: Path) -> None:
    assert state(directory, "new") == ("unknown", "No report of this node exists.")


def test_report_is_that_of_the_host_that_it_names(tmp_path: Path) -> None:
    """a.b may be a host, or the environment b of a."""
    (tmp_path / "a.b.json").write_text(json.dumps(report("a", LATER)))
    assert state(tmp_path, "a")[0] == "proven"
    assert state(tmp_path, "a.b")[0] == "unknown"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": "a"}', "\xff"])
def test_file_that_is_no_report_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    (tmp_path / "fleet.json").write_bytes(text.encode("latin-1"))
    assert state(tmp_path, "a")[0] == "unknown"


def test_first_schema_is_read_as_no_record(tmp_path: Path) -> None:
    (tmp_path / "fleet.json").write_text(json.dumps({"schema": 1, "nodes": [{"host": "a", "state": "proven"}]}))
    assert state(tmp_path, "a")[0] == "unknown"


class TestFiles:
    def test_all_are_written_and_say_the_same(self, directory: Path) -> None:
        hosts = [node["host"] for node in fleets.fleet(40)["nodes"]]
        made, failed = reporting.report_fleet({"reports": str(directory)}, hosts, check_mode=False)
        assert failed is None
        assert {path.name for path in directory.glob("fleet.*")} == {"fleet.json", *files.MADE}
        assert made["page"] == str(directory / "fleet.html")
        assert made["answer"] == "33 of 40 nodes compute; 4 need you; 3 not begun"
        assert len(made["needs_somebody"]) == 7
        assert made["lines"] == (directory / "fleet.txt").read_text().splitlines()

    def test_check_mode_writes_nothing(self, tmp_path: Path) -> None:
        made, _ = reporting.report_fleet({"reports": str(tmp_path)}, ["a"], check_mode=True)
        assert (made["page"], list(tmp_path.iterdir())) == ("", [])

    def test_half_a_character_is_no_error(self, tmp_path: Path) -> None:
        made = fleets.fleet(1)
        made["nodes"][0]["host"] = "\ud800"
        files.write_all(str(tmp_path), made)

    def test_place_that_is_no_directory_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "reports").write_text("")
        with pytest.raises(StackError, match="cannot be written: .*Set stack_report_directory to a directory of yours"):
            files.write_all(str(tmp_path / "reports"), fleets.fleet(1))
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "drained").write_text("")
        _, failed = reporting.report_fleet({"reports": str(tmp_path / "other")}, [], check_mode=False)
        assert failed is not None
