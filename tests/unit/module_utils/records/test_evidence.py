"""A verdict holds for all of what was judged."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.records.additions import Addition
from ansible.module_utils.tensorflow_stack.records.evidence import deciding_variables, evidence_digest

JUDGED: dict[str, Any] = {
    "evidence": {"gpus": ["20b0"], "driver": "535.183.01", "boot_id": "1f0c"},
    "additions": [],
    "variables": {},
    "build": "tensorflow-2.8.0-1a2b3c4d5e6f-1",
    "release": "2.8.0",
    "expect_gpu": True,
    "gpu_count": 1,
    "cudnn_floor": "8.1.0",
}


@pytest.mark.parametrize(
    "other",
    [
        {"evidence": {"gpus": ["20b0"], "driver": "550.54.15", "boot_id": "1f0c"}},
        {"additions": [Addition("pandas", "2.3.3")]},
        {"variables": {"LD_LIBRARY_PATH": "/usr/local/cuda/lib64"}},
        {"build": "tensorflow-2.8.0-1a2b3c4d5e6f-2"},
        {"release": "2.8.1"},
        {"expect_gpu": False},
        {"gpu_count": 2},
        {"cudnn_floor": None},
    ],
    ids=lambda other: next(iter(other)),
)
def test_each_part_counts(other: dict[str, Any]) -> None:
    assert evidence_digest(**JUDGED) == evidence_digest(**JUDGED)
    assert evidence_digest(**JUDGED) != evidence_digest(**{**JUDGED, **other})


def test_only_variables_that_decide_something_count() -> None:
    environ = {"LD_LIBRARY_PATH": "", "HOME": "/root", "CUDA_VISIBLE_DEVICES": "0"}
    assert deciding_variables(environ) == {"LD_LIBRARY_PATH": "", "CUDA_VISIBLE_DEVICES": "0"}
