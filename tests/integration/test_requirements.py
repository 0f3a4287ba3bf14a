"""Public requirement files, and what becomes of each: tests/data/requirements/expected.yml."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = REPOSITORY / "tests" / "data" / "requirements"
ROWS = yaml.safe_load((FILES / "expected.yml").read_text())
REFUSED = [row for row in ROWS if "refused" in row]
LOCKED = [row for row in ROWS if "pythons" in row]
IN_CONFLICT = [row for row in ROWS if "conflicts" in row]
# Quick ones, of every kind; all others take minutes with an empty cache.
IN_CI = ("google-research--albert.txt", "google-deepmind--alphafold.txt")


def parameters(rows: list[dict[str, Any]]) -> list[Any]:
    marks = [[] if row["file"] in IN_CI or "refused" in row else [pytest.mark.slow] for row in rows]
    return [pytest.param(row, id=row["file"], marks=mark) for row, mark in zip(rows, marks)]


@pytest.fixture
def make_lock(run_module: Any, tmp_path: Path) -> Any:
    def make(row: dict[str, Any], **options: Any) -> dict[str, Any]:
        shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
        result: dict[str, Any] = run_module(
            "tensorflow_lock",
            check=True,
            requirements=str(tmp_path / row["file"]),
            flavours=["cpu"],
            cutoff="2026-11-22T00:00:00Z",
            directory=str(tmp_path / "locks"),
            tables=str(REPOSITORY / "roles/tensorflow_release/files/tables"),
            tools_directory=str(REPOSITORY / ".tools"),
            **options,
        )
        return result

    return make


def test_every_file_has_a_row() -> None:
    assert {row["file"].split("[")[0] for row in ROWS} | {"expected.yml"} == {path.name for path in FILES.iterdir()}
    assert len(ROWS) == len(REFUSED) + len(LOCKED) + len(IN_CONFLICT)


@pytest.mark.parametrize("row", parameters(REFUSED))
def test_refused(make_lock: Any, row: dict[str, Any]) -> None:
    message = make_lock(row)["msg"]
    assert f"{row['file']}{row['refused']}" in message


@pytest.mark.parametrize("row", parameters(LOCKED))
def test_locked(make_lock: Any, row: dict[str, Any]) -> None:
    made = make_lock(row)
    assert made["release"] == str(row["release"])
    assert [lock["python"] for lock in made["locks"]] == row["pythons"]
    assert [target["python"] for target in made["left_out"]] == row.get("left_out", [])


@pytest.mark.parametrize("row", parameters(IN_CONFLICT))
def test_every_line_in_conflict_is_named(make_lock: Any, row: dict[str, Any]) -> None:
    failed = make_lock(row, pythons=[row["conflicts_on"]])
    assert failed["msg"].startswith(f"TensorFlow {row['release']} for CPython {row['conflicts_on']}, linux_x86_64, cpu")
    conflicts = failed.get("conflicts", ())  # none, if distributions install one path
    lines = [line["where"].rpartition(":")[2] for conflict in conflicts for line in conflict["lines"]]
    assert sorted(map(int, lines)) == sorted(row["conflicts"])
    assert all(conflict["meets"] != "the lines exclude each other" for conflict in conflicts)
    assert row.get("says", "") in failed["msg"]
