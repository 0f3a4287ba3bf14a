"""The module that writes the report: once it is written, it fails for what failed or was not proven."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunModule

PROVEN: dict[str, Any] = {"verdict": "ok", "reason": "", "causes": [], "reused": False, "checked_at": "", "report": {}}


def test_what_failed_is_written_and_named_once(run_module: RunModule, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    failed = {"failed": True, "msg": "the disk is full"}
    done = run_module("tensorflow_report", host="a", path=str(path), failed_task="Build", failed_result=failed)
    assert done["failed"] and done["msg"] == f"The task 'Build' failed, see above. The report is {path}."
    assert json.loads(path.read_text())["error"] == "the disk is full"


@pytest.mark.parametrize(("check", "failed"), [(False, True), (True, False)])
def test_no_proof_is_a_failure_but_in_check_mode(
    run_module: RunModule, tmp_path: Path, check: bool, failed: bool
) -> None:
    path = tmp_path / "a.json"
    done = run_module("tensorflow_report", check=check, host="a", path=str(path), proof_required=True)
    assert done.get("failed", False) is failed
    assert path.exists() is not check


def test_a_proof_is_no_failure(run_module: RunModule, tmp_path: Path) -> None:
    options = {"host": "a", "path": str(tmp_path / "a.json"), "proof_required": True}
    assert run_module("tensorflow_report", **options, check_result=PROVEN)["report"]["succeeded"]


@pytest.mark.parametrize("host", ["../../play/x", "/x", "a/b", "..", "."])
def test_a_host_leads_no_report_elsewhere(run_module: RunModule, tmp_path: Path, host: str) -> None:
    (tmp_path / "reports").mkdir()
    done = run_module("tensorflow_report", host=host, path=f"{tmp_path}/reports/{host}.json")
    assert done["failed"] and "is not a valid file name" in done["msg"]
    assert [path.name for path in tmp_path.rglob("*")] == ["reports"]
