"""Whether the GPUs that the driver shows are those that were planned for. Pure."""

from __future__ import annotations

import re
from typing import Sequence


def find_misfit(shown: Sequence[str | None], expected: Sequence[str]) -> tuple[str, str] | None:
    """The name of a verdict and its reason; None if they are the same, or if one side does not know its addresses."""
    if not expected or None in shown:
        return None
    planned = {_place(address) for address in expected}
    found = {_place(str(address)) for address in shown}
    if planned == found:
        return None
    reason = (
        f"The driver shows the GPUs at {', '.join(map(str, shown))}; expected are those at {', '.join(expected)}. "
        "Is CUDA_VISIBLE_DEVICES set?"
    )
    return "gpu_missing" if planned - found else "gpu_not_expected", reason


def _place(address: str) -> tuple[int, ...]:
    """0000:3b:00.0 and 00000000:3B:00.0 are one."""
    return tuple(int(part, 16) for part in re.findall(r"[0-9a-fA-F]+", address))
