"""fleet.json for others: JUnit, Prometheus, CSV. What a node says cannot break a format, or run in a spreadsheet."""

from __future__ import annotations

import csv
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible.module_utils.tensorflow_stack.fleet import exports
from prometheus_client.parser import text_string_to_metric_families

from tests import fleets

# As the name of a host and in every message.
HOSTILE = (
    "<script>alert(1)</script>",
    '=HYPERLINK("http://example.org")',
    '"; drop\\',
    "new\nline",
    "\x1b[31mred\x00",
    "\ud800",
    "-1+1|cmd",
)


def hostile(text: str) -> dict[str, Any]:
    made = fleets.fleet(40)
    for node in made["nodes"]:
        node["host"] = f"{text}{node['host']}"
        for name in ("error", "cause", "next_step"):
            node[name] = node[name] and text + node[name]
        for one in node["environments"]:
            one["reason"] = text
            for part in one["components"]:
                part["found"] = text
    return made


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """By Prometheus' own parser."""
    return {
        family.name.removeprefix("tensorflow_fleet_"): [(sample.labels, sample.value) for sample in family.samples]
        for family in text_string_to_metric_families(text)
    }


def test_junit_has_a_case_for_each_environment() -> None:
    root = ElementTree.fromstring(exports.junit(fleets.fleet(40)))
    suite = root.find("testsuite")
    assert suite is not None
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "40",
        "failures": "3",
        "errors": "1",
        "skipped": "3",
    }
    cases = {case.get("classname"): case for case in suite}
    failure = cases["gpu18.example.org"].find("failure")
    assert failure is not None
    assert failure.get("message") == fleets.CAUSE["says"]
    assert f"Next: {fleets.CAUSE['do']}" in str(failure.text)
    assert cases["gpu06.example.org"].find("error") is not None
    assert cases["gpu38.example.org"].find("skipped") is not None


def test_environment_that_computes_passes_if_another_one_failed() -> None:
    made = fleets.fleet(40)
    node = next(node for node in made["nodes"] if node["state"] == "failed")
    node["environments"].append({**made["nodes"][0]["environments"][0], "name": "other"})
    cases = ElementTree.fromstring(exports.junit(made)).findall(f"*/*[@classname='{node['host']}']")
    assert [len(case.findall("failure")) for case in cases] == [1, 0]


def test_prometheus_counts_states_and_names_nodes() -> None:
    found = samples(exports.prometheus(fleets.fleet(40), 1764151320.0))
    assert ({"state": "proven"}, 33.0) in found["nodes"]
    assert ({"node": "gpu18.example.org", "state": "failed"}, 1.0) in found["node_state"]
    assert [labels["node"] for labels, value in found["node_drained"] if value] == ["gpu18.example.org"]
    assert sum(value for _, value in found["environment_proven"]) == 33
    drifted = [labels for labels, value in found["component_drift"] if value]
    assert [(labels["node"], labels["component"]) for labels in drifted] == [("gpu32.example.org", "driver")]
    assert found["report_timestamp_seconds"] == [({}, 1764151320.0)]


def test_csv_has_a_line_for_each_environment() -> None:
    rows = list(csv.DictReader(exports.comma_separated(fleets.fleet(40)).splitlines()))
    assert len(rows) == 40
    by_node = {row["node"]: row for row in rows}
    assert by_node["gpu18.example.org"]["cause"] == fleets.CAUSE["says"]
    assert by_node["gpu01.example.org"]["environment_wanted"] == "2.15.1"
    assert by_node["gpu32.example.org"]["driver_drift"].startswith("nvidia-driver: moved, recorded 535")
    assert by_node["gpu06.example.org"]["state"] == "unreachable"


@pytest.mark.parametrize("text", HOSTILE)
class TestHostile:
    def test_junit(self, text: str) -> None:
        assert len(ElementTree.fromstring(exports.junit(hostile(text)).encode()).findall("*/testcase")) == 40

    def test_prometheus(self, text: str) -> None:
        made = hostile(text)
        found = samples(exports.prometheus(made, 0.0))
        # A text without a meaning in UTF-8 is replaced.
        if text != "\ud800":
            assert {labels["node"] for labels, _ in found["node_state"]} == {node["host"] for node in made["nodes"]}

    def test_csv(self, text: str) -> None:
        rows = list(csv.reader(exports.comma_separated(hostile(text)).splitlines(keepends=True)))
        assert len(rows) == 41
        assert not [cell for row in rows for cell in row if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@a", "\t=1", " =1", "\uff1d1", "|a", "%0a"])
def test_cell_that_a_spreadsheet_computes_is_a_text(cell: str) -> None:
    made = fleets.fleet(1)
    made["nodes"][0]["host"] = cell
    row = list(csv.reader(exports.comma_separated(made).splitlines(keepends=True)))[1]
    assert row[0] == f"'{cell}"


def test_text_is_that_of_the_screen() -> None:
    assert exports.text(fleets.fleet(4)) == "Fleet of 4 nodes: 4 proven\n"
