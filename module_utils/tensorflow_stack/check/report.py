"""The report of a check: what its records say of the node, the environment and each stage. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .verdicts import Record, facts_of, fault_of, last_records, reference_of


def make_report(records: Sequence[Record], variables: Mapping[str, str]) -> dict[str, Any]:
    stages = last_records(records)
    facts = facts_of(stages)
    devices = facts.get("devices", [])
    has_gpu = any(device["type"] == "GPU" for device in devices)
    return {
        "python": facts.get("python"),
        "tensorflow_version": facts.get("tensorflow_version"),
        "numpy_version": facts.get("numpy_version"),
        "build_info": facts.get("build_info") or facts.get("built_with", {}),
        "gpu": "present" if has_gpu else "absent" if devices else None,
        "devices": devices,
        "driver": {key: facts.get(key) for key in ("module", "xids", "nvml", "libcuda")},
        "libraries": facts.get("libraries", []),
        "libraries_mapped": facts.get("libraries_mapped", []),
        "loader": facts.get("loader", {}),
        "compiler": facts.get("compiler", {}),
        "variables": dict(variables),
        "stages": [_stage_row(record) for record in stages.values()],
    }


def _stage_row(record: Record) -> dict[str, Any]:
    fault = fault_of(record)
    passed = f"{record['values']} values equal {reference_of(record)}" if "values" in record else ""
    return {
        "name": record["stage"],
        "device": record["device"],
        "passed": fault is None,
        "seconds": record.get("seconds"),
        "detail": fault.reason if fault else record.get("skipped", passed),
    }
