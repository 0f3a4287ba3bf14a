"""The time as records, reports and locks have it."""

from __future__ import annotations

import time


def timestamp(seconds: float | None = None) -> str:
    """Now or at these seconds since 1970, in UTC and to the second: 2026-11-26T22:00:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
