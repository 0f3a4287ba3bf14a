"""`fleet.json` in the formats of others: JUnit, Prometheus' text format, CSV. Pure."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

from .entries import ON_A_NODE
from .summary import NEED_SOMEBODY, SAYS, STATES, lines

Summary = Mapping[str, Any]
# What XML cannot contain, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# A spreadsheet takes a cell that begins so for a formula.
_FORMULA = re.compile(r"[\s\x00-\x1f]*[=+\-@|%\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")


def text(summary: Summary) -> str:
    """The lines of the screen."""
    return "\n".join(lines(summary)) + "\n"


# --------------------------------------------------------------------------------------------------- JUnit


def junit(summary: Summary) -> str:
    """A test case for each environment of each node. What waits for another node, or for a run, is skipped."""
    suite = ElementTree.Element("testsuite", {"name": "fleet", "timestamp": summary["written_at"].rstrip("Z")})
    for node in summary["nodes"]:
        for one in node["environments"] or [{}]:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                {"classname": _xml(node["host"]), "name": _xml(_name_of(one)), "time": "0"},
            )
            _add_result(case, node, one)
    counts = {
        "tests": len(suite),
        "failures": len(suite.findall("*/failure")),
        "errors": len(suite.findall("*/error")),
        "skipped": len(suite.findall("*/skipped")),
    }
    totals = {name: str(count) for name, count in counts.items()}
    suite.attrib.update({**totals, "time": "0"})
    root = ElementTree.Element("testsuites", {"name": "fleet", **totals})
    root.append(suite)
    ElementTree.indent(root)
    return str(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True).decode("utf-8")) + "\n"


def _name_of(environment: Mapping[str, Any]) -> str:
    return environment.get("name") or f"TensorFlow {environment.get('release') or '(unknown)'}"


def _add_result(case: ElementTree.Element, node: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
    state = node["state"]
    # Another environment of the node failed, this one computes.
    if state == "proven" or environment.get("succeeded"):
        if environment.get("reason"):
            ElementTree.SubElement(case, "system-out").text = _xml(environment["reason"])
        return
    message = _xml(node["cause"] or SAYS[state])
    if state not in NEED_SOMEBODY or state == "unknown":
        ElementTree.SubElement(case, "skipped", {"message": message})
        return
    kind = "error" if state in ("unreachable", "unfinished") else "failure"
    result = ElementTree.SubElement(case, kind, {"message": message, "type": environment.get("verdict") or state})
    result.text = _xml(f"{node['error'] or node['cause']}\n\nNext: {node['next_step']}")


def _xml(value: Any) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", str(value))


# ---------------------------------------------------------------------------------------------- Prometheus


class _Metric(NamedTuple):
    """`_PREFIX`, this name, and its samples, each the labels and the value."""

    name: str
    meaning: str
    samples: Iterable[tuple[Mapping[str, Any], float]]


_PREFIX = "tensorflow_fleet"


def prometheus(summary: Summary, written_at: float) -> str:
    """For the textfile collector of the node exporter on the controller."""
    shown: list[str] = []
    for metric in [
        *_of_nodes(summary),
        *_of_environments(summary),
        _Metric("report_timestamp_seconds", "When the report was made", [({}, written_at)]),
        _Metric("report_complete", "Whether the run that made the report ended", [({}, int(summary["ended"]))]),
    ]:
        name = f"{_PREFIX}_{metric.name}"
        shown += [f"# HELP {name} {metric.meaning}.", f"# TYPE {name} gauge"]
        # The same series twice makes the whole file invalid.
        values = {f"{name}{_labels(labels)}": value for labels, value in metric.samples}
        shown += [f"{series} {value:.15g}" for series, value in values.items()]
    return "\n".join(shown) + "\n"


def _of_nodes(summary: Summary) -> list[_Metric]:
    nodes = summary["nodes"]
    return [
        _Metric("nodes", "Nodes by state", [({"state": state}, summary["counts"][state]) for state in STATES]),
        _Metric(
            "node_state",
            "State of a node; the value is always 1",
            [({"node": node["host"], "state": node["state"]}, 1) for node in nodes],
        ),
        _Metric(
            "node_drained",
            "Whether fleet.yml drained the node and has not undrained it",
            [({"node": node["host"]}, int(node["drained_since"] is not None)) for node in nodes],
        ),
    ]


def _of_environments(summary: Summary) -> list[_Metric]:
    proven, drift = [], []
    for node in summary["nodes"]:
        for one in node["environments"]:
            labels = {"node": node["host"], "environment": _name_of(one)}
            proven.append(
                ({**labels, "release": one["release"], "verdict": one["verdict"]}, int(one["succeeded"])),
            )
            drift += [
                ({**labels, "component": part["component"]}, len(part["drift"]))
                for part in one["components"]
                if part["verdict"] != "unused" or part["drift"]
            ]
    return [
        _Metric("environment_proven", "Whether TensorFlow computed the right numbers in this environment", proven),
        _Metric("component_drift", "Differences between a component and what was installed", drift),
    ]


def _labels(labels: Mapping[str, Any]) -> str:
    pairs = ",".join(f'{name}="{_label(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _label(value: Any) -> str:
    return str(value or "").replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


# ----------------------------------------------------------------------------------------------------- CSV

_COLUMNS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Any]] = {
    "node": lambda node, _: node["host"],
    "state": lambda node, _: node["state"],
    "drained_since": lambda node, _: node["drained_since"],
    "environment": lambda _, one: one.get("name"),
    "release": lambda _, one: one.get("release"),
    "flavour": lambda _, one: one.get("flavour"),
    "action": lambda _, one: one.get("action"),
    "verdict": lambda _, one: one.get("verdict"),
    "checked_at": lambda _, one: one.get("checked_at"),
    "cause": lambda node, _: node["cause"],
    "next_step": lambda node, _: node["next_step"],
}


def comma_separated(summary: Summary) -> str:
    """A line for each environment of each node, with what is found and wanted of each component."""
    of_components = [f"{name}_{field}" for name in ON_A_NODE for field in ("found", "wanted", "verdict", "drift")]
    rows: list[Sequence[Any]] = [[*_COLUMNS, *of_components]]
    for node in summary["nodes"]:
        for one in node["environments"] or [{}]:
            parts = {part["component"]: part for part in one.get("components", ())}
            of_parts = [cell for name in ON_A_NODE for cell in _cells(parts.get(name))]
            rows.append([*(column(node, one) for column in _COLUMNS.values()), *of_parts])
    written = _Lines()
    csv.writer(written).writerows([[_cell(value) for value in row] for row in rows])
    return "".join(written.made)


def _cells(part: Mapping[str, Any] | None) -> list[Any]:
    return [part["found"], part["wanted"], part["verdict"], "; ".join(part["drift"])] if part else [""] * 4


def _cell(value: Any) -> str:
    """An apostrophe makes a text of what a spreadsheet would compute."""
    shown = "" if value is None else str(value)
    return f"'{shown}" if _FORMULA.match(shown) else shown


class _Lines:
    """What csv.writer writes to: the file is written whole by others."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def write(self, line: str) -> None:
        self.made.append(line)
