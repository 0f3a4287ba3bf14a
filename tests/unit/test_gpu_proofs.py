"""tests/gpu/proofs.py, on a result of an H200 (shortened)."""

from __future__ import annotations

import copy
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "tests/gpu/proofs.py"
RESULT = json.loads((REPOSITORY / "tests/data/gpu/h200_2.17.1.json").read_text(encoding="utf-8"))

_spec = importlib.util.spec_from_file_location("gpu_proofs", SCRIPT)
assert _spec and _spec.loader
proofs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(proofs)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return Path(shutil.copy(proofs.TABLE, tmp_path / "gpu_proofs.yml"))


def rows(table: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = yaml.safe_load(table.read_text(encoding="utf-8"))["rows"]
    return listed


def test_the_row_of_a_result_is_the_one_in_the_table() -> None:
    row = proofs.make_row(RESULT, "2026-11-26")
    (shipped,) = [shipped for shipped in rows(proofs.TABLE) if shipped["release"] == "2.17.1"]
    del shipped["source"]
    assert row == shipped


def test_a_row_takes_the_place_of_the_one_before_and_the_order_stays(table: Path) -> None:
    before = rows(table)
    again = {**proofs.make_row(RESULT, "2027-01-02"), "seconds": 5}
    other = {**again, "release": "2.9.3"}
    proofs.record(again, table)
    proofs.record(other, table)
    after = rows(table)
    assert len(after) == len(before) + 1
    assert [row["release"] for row in after].index("2.9.3") == 1  # after 2.8.0, before 2.14.1
    (found,) = [row for row in after if row["release"] == "2.17.1"]
    assert (found["date"], found["seconds"], found["source"]) == ("2027-01-02", 5, ["run"])


def test_a_result_with_another_verdict_is_no_proof() -> None:
    result = copy.deepcopy(RESULT)
    result["cases"][2]["verdict"] = "ok"
    with pytest.raises(proofs.NoProofError, match="no proof: gpus_hidden was ok"):
        proofs.make_row(result, "2026-11-26")


def test_the_command_needs_a_result_that_is_a_proof(tmp_path: Path) -> None:
    result = copy.deepcopy(RESULT)
    result["cases"][0]["verdict"] = "gpu_not_used"
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result))
    command = [sys.executable, str(SCRIPT), str(path), "--date", "2026-11-26"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "whole was gpu_not_used" in done.stderr
