"""Each kind of node that is known has a file system among the tests, a plan, and its sentence in the documentation."""

from __future__ import annotations

import pytest
import yaml

from tests import nodes
from tests.conftest import REPOSITORY

TABLES = REPOSITORY / "roles" / "tensorflow_release" / "files" / "tables"
ROWS = yaml.safe_load((TABLES / "node_kinds.yml").read_text(encoding="utf-8"))["rows"]
PLANNED = {case["node"] for case in yaml.safe_load((REPOSITORY / "tests/data/plans/cases.yml").read_text())}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """Of every node that a plan was made for."""
    directory = tmp_path_factory.mktemp("nodes")
    records = [nodes.read(name, directory) for name in nodes.NAMES if name in PLANNED]
    return {(kind["aspect"], kind["kind"]) for record in records for kind in record["kinds"]}


def test_each_kind_has_a_node_and_a_plan(kinds: set[tuple[str, str]]) -> None:
    assert sorted({(row["aspect"], row["kind"]) for row in ROWS} - kinds) == []


def test_each_kind_is_in_the_documentation() -> None:
    said = (REPOSITORY / "docs" / "nodes.md").read_text(encoding="utf-8")
    assert [row["name"] for row in ROWS if f"| {row['name']} |" not in said] == []


def test_every_node_has_a_plan() -> None:
    """A file system that no plan is made for shows nothing to an operator."""
    unplanned = set(nodes.NAMES) - PLANNED
    assert unplanned <= {"broken_pythons", "damaged"}
