"""What the timer starts: one look at the environment in use, written where others read it.

Never raises, and never waits longer than the time limit of the check and the seconds for ending it: a node whose driver
hangs is the one whose result matters.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Mapping, Sequence

from ..boundary import failure
from ..check.probe import look
from ..environment.in_use import read_link
from ..environment.root import check_program, check_root
from ..errors import NotStartedError, StackError
from ..io.reading import read_json
from ..io.writing import write_json, write_text
from ..records import manifest
from .findings import Finding, as_json, metrics, status_line

_MOST_BYTES = 1 << 20
# What nobody checked in full yet: its kind is all that is known.
_MINIMUM = {"gpu_count": 0, "gpu_addresses": [], "cudnn_floor": None}


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 if the result was written, whatever it is."""
    try:
        return _run(*arguments)
    except Exception as error:  # this is the boundary
        print(failure(error, "tensorflow_health")["msg"], file=sys.stderr)
        return 1


def _run(path: str) -> int:
    settings = _read_settings(path)
    began, started = int(time.time()), time.monotonic()
    found = find(settings["root"], settings["environment"], time_limit=settings["time_limit"])
    finding = Finding(checked_at=began, seconds=time.monotonic() - started, **found)
    directory = settings["results"]
    write_json(os.path.join(directory, "health.json"), as_json(finding))
    write_text(os.path.join(directory, "health.prom"), metrics(finding))
    line = status_line(finding)
    write_text(os.path.join(directory, "status"), line)
    print(line.split(" ", 2)[2], end="")
    return 0


def _read_settings(path: str) -> dict[str, Any]:
    try:
        settings = read_json(path, _MOST_BYTES)
    except (OSError, ValueError) as error:
        raise StackError(f"{path} cannot be read: {error}. Run make health again.") from error
    texts = [settings.get(name) for name in ("root", "environment", "results")]
    if not all(isinstance(text, str) for text in texts) or not isinstance(settings.get("time_limit"), (int, float)):
        raise StackError(f"{path} lacks a setting. Run make health again.")
    return settings


def find(root: str, name: str, *, time_limit: float) -> dict[str, Any]:
    """The fields of a finding, of the environment of that name, or if it is empty of the one in use."""
    found: dict[str, Any] = {"is_healthy": None, "verdict": "not_checked", "environment": name}
    try:
        check_root(root)
        content = manifest.read(root)
        name = name or manifest.name_in_use(content, read_link(root)) or ""
        entry = content["environments"].get(name)
        if entry is None:
            what = f"has no environment {name}" if name else "has no environment in use"
            return {**found, "environment": name, "reason": f"{root} {what}."}
        found.update(environment=name, release=entry.get("release", ""))
        return {**found, **_look(os.path.join(root, name), entry, time_limit=time_limit)}
    except StackError as error:
        return {**found, "reason": error.message}
    except OSError as error:
        return {**found, "reason": f"{error.filename}: {error.strerror}."}
    except Exception as error:  # an old result would be taken for the present one
        return {**found, "reason": failure(error, "tensorflow_health")["msg"]}


def _look(environment: str, entry: Mapping[str, Any], *, time_limit: float) -> dict[str, Any]:
    build = os.path.realpath(environment)
    python = os.path.join(build, "bin", "python")
    check_program(python)
    kind = {"release": entry["release"], "expect_gpu": entry.get("flavour") == "cuda"}
    expected = {**_MINIMUM, **kind, **((entry.get("check") or {}).get("expected") or {})}
    try:
        outcome = look(python, expected, time_limit=time_limit)
    except NotStartedError as error:
        reason = f"{python} does not start ({error.reason})."
        return {"is_healthy": False, "verdict": "environment_missing", "reason": reason}
    driver = outcome.report["driver"]
    return {
        # Slow as a whole is not broken: a node may be busy. If the driver hangs, a stage of its own says so.
        "is_healthy": None if outcome.verdict == "timed_out" else outcome.is_good,
        "verdict": outcome.verdict,
        "reason": outcome.reason,
        "driver": (driver["module"] or {}).get("version") or (driver["nvml"] or {}).get("driver") or "",
        "gpus": len((driver["libcuda"] or {}).get("gpus", ())),
        "expected_gpus": max(expected["gpu_count"], 1) if expected["expect_gpu"] else 0,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
