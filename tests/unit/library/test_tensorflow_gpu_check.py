from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.tensorflow_stack.check import probe, verdicts
from ansible.modules import tensorflow_gpu_check

RunModule = Callable[..., dict[str, Any]]

KEYS = {field.name for field in dataclasses.fields(probe.CheckOutcome)} | {"changed", "causes"}
ARGUMENTS: dict[str, Any] = {"environment": "/opt/tensorflow/tensorflow-2.8.0", "release": "2.8.0", "expect_gpu": False}


@pytest.mark.parametrize("verdict", sorted(verdicts.VERDICTS))
def test_only_a_good_verdict_passes(run_module: RunModule, monkeypatch: pytest.MonkeyPatch, verdict: str) -> None:
    monkeypatch.setattr(probe, "check", lambda *_, **__: probe.CheckOutcome(verdict, "because"))
    result = run_module(tensorflow_gpu_check, **ARGUMENTS)
    assert result.get("failed", False) is (verdict not in {*verdicts.GOOD_VERDICTS, "not_checked"})
    assert set(result) >= KEYS
    assert (result["verdict"], result["reason"], result["changed"]) == (verdict, "because", False)
    if result.get("failed"):
        assert result["msg"] == f"{verdict}: because"


def test_arguments_reach_the_check(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def check(**arguments: Any) -> probe.CheckOutcome:
        seen.update(arguments)
        return probe.CheckOutcome("ok", "")

    monkeypatch.setattr(probe, "check", check)
    run_module(tensorflow_gpu_check, check=True, gpu_count=2, evidence={"driver": "535.183.01"}, **ARGUMENTS)
    assert seen == {
        **ARGUMENTS,
        "gpu_count": 2,
        "gpu_addresses": [],
        "cudnn_floor": None,
        "level": "full",
        "time_limit": 300,
        "reuse": True,
        "evidence": {"driver": "535.183.01"},
        "check_mode": True,
    }


def test_a_gpu_that_is_not_used_is_said_with_a_good_verdict(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    for verdict, reason in (("cpu_only_no_gpu", "Computed. No GPU is used: ..."), ("import_failed", "Computed.")):
        outcome = probe.CheckOutcome(verdict, "Computed.", reused=True)
        monkeypatch.setattr(probe, "check", lambda *_, outcome=outcome, **__: outcome)
        result = run_module(tensorflow_gpu_check, unused_gpu="No GPU is used: ...", **ARGUMENTS)
        assert result["reason"] == reason


def test_no_environment_fails_with_all_keys(run_module: RunModule, tmp_path: Path) -> None:
    result = run_module(tensorflow_gpu_check, **{**ARGUMENTS, "environment": str(tmp_path / "tensorflow-2.8.0")})
    assert result["failed"]
    assert result["verdict"] == "environment_missing"
    assert set(result) >= KEYS


def test_a_node_that_awaits_its_reboot_is_not_checked(run_module: RunModule) -> None:
    result = run_module(tensorflow_gpu_check, reboot_reasons=["nouveau is loaded", "nvidia is not"], **ARGUMENTS)
    assert result["failed"]
    assert result["msg"] == (
        "reboot_required: nouveau is loaded; nvidia is not. Reboot the node and run again, or set nvidia_driver_reboot "
        "to true."
    )
    assert set(result) >= KEYS


def test_no_environment_yet_in_check_mode(run_module: RunModule, tmp_path: Path) -> None:
    environment = str(tmp_path / "tensorflow-2.8.0")
    result = run_module(tensorflow_gpu_check, check=True, **{**ARGUMENTS, "environment": environment})
    assert not result.get("failed")
    assert result["verdict"] == "not_checked"


def test_a_damaged_manifest_fails_with_all_keys(run_module: RunModule, tmp_path: Path) -> None:
    (tmp_path / "tensorflow-2.8.0").mkdir()
    (tmp_path / "manifest.json").write_text("{")
    result = run_module(tensorflow_gpu_check, **{**ARGUMENTS, "environment": str(tmp_path / "tensorflow-2.8.0")})
    assert result["failed"]
    assert "Move it away" in result["msg"]
    assert result["path"] == str(tmp_path / "manifest.json")
    assert set(result) >= KEYS
    assert result["verdict"] == "not_checked"


def test_documented_verdicts_are_the_table() -> None:
    documented = yaml.safe_load(tensorflow_gpu_check.RETURN)
    assert documented["verdict"]["choices"] == verdicts.VERDICTS
    assert set(documented) == KEYS - {"changed"}
    assert set(documented["report"]["contains"]) == set(probe.CheckOutcome("ok", "").report)


def test_a_verdict_that_was_not_wished_comes_with_its_causes(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cause may stand long before the end of the log, of which the result has the tail alone."""
    log = ["TypeError: Descriptors cannot be created directly.", *(f"W later {number}" for number in range(500))]
    monkeypatch.setattr(
        probe, "check", lambda **_: probe.CheckOutcome("import_failed", "import: raised", stderr_tail=log)
    )
    tables = Path(__file__).resolve().parents[3] / "roles/tensorflow_release/files/tables/diagnoses.yml"
    rows = yaml.safe_load(tables.read_text(encoding="utf-8"))["rows"]
    result = run_module(tensorflow_gpu_check, diagnoses=rows, **ARGUMENTS)
    assert [cause["cause"] for cause in result["causes"]] == ["protobuf_too_new"]
    assert result["msg"].startswith("import_failed: import: raised Cause (protobuf_too_new): protobuf is newer than")
    assert result["stderr_tail"] == log[-40:]
    assert run_module(tensorflow_gpu_check, **ARGUMENTS)["causes"] == []
