"""What a verdict of the check holds for, as one digest. Pure: the check and the plan of a node compute the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .additions import Addition

# Variables that decide which libraries and devices TensorFlow finds.
DECIDING_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "NVIDIA_VISIBLE_DEVICES",
    "TF_MIN_GPU_MULTIPROCESSOR_COUNT",
)


def deciding_variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in DECIDING_VARIABLES if name in environ}


def evidence_digest(
    *,
    evidence: Mapping[str, Any],
    additions: Iterable[Addition],
    variables: Mapping[str, str],
    build: str,
    release: str,
    expect_gpu: bool,
    gpu_count: int,
    gpu_addresses: Sequence[str] = (),
    cudnn_floor: str | None,
) -> str:
    """`evidence` is the plan's; `build` is the name of the build. What was added to it may break TensorFlow."""
    parts = [
        evidence,
        [list(addition) for addition in additions],
        variables,
        build,
        release,
        expect_gpu,
        gpu_count,
        list(gpu_addresses),
        cudnn_floor,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8")).hexdigest()
