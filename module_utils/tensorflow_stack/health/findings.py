"""What a health check found, as others read it: JSON, Prometheus' text format, and a line for a shell. Pure."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

# Exit codes of Node Problem Detector's custom plugins, which Nagios has, too.
HEALTHY, UNHEALTHY, UNKNOWN = 0, 1, 2
_METRIC = "tensorflow_health"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One health check. `is_healthy` is null if the check itself could not be made."""

    is_healthy: bool | None
    verdict: str
    reason: str
    checked_at: int  # seconds since 1970
    seconds: float
    environment: str = ""
    release: str = ""
    driver: str = ""
    gpus: int = 0
    expected_gpus: int = 0


def exit_code(finding: Finding) -> int:
    return UNKNOWN if finding.is_healthy is None else HEALTHY if finding.is_healthy else UNHEALTHY


def status_line(finding: Finding) -> str:
    """The exit code, the time and the message, for a shell to read: one line of printable ASCII."""
    message = re.sub(r"[^ -~]+", " ", f"{finding.verdict}: {finding.reason}")
    return f"{exit_code(finding)} {finding.checked_at} {message}\n"


def as_json(finding: Finding) -> dict[str, Any]:
    return {"schema": 1, **dataclasses.asdict(finding)}


def metrics(finding: Finding) -> str:
    """For the textfile collector of Prometheus' node exporter."""
    labels = {
        "environment": finding.environment,
        "release": finding.release,
        "driver": finding.driver,
        "verdict": finding.verdict,
    }
    written = ",".join(f'{name}="{_escaped(label)}"' for name, label in labels.items())
    rows: list[tuple[str, str, str, float]] = [
        (
            "healthy",
            "",
            "1 if the driver and the libraries of the environment are in order.",
            int(finding.is_healthy or 0),
        ),
        ("info", f"{{{written}}}", "The environment, its TensorFlow, the loaded driver and the verdict.", 1),
        ("gpus", "", "GPUs that the driver shows.", finding.gpus),
        ("expected_gpus", "", "GPUs that the environment expects.", finding.expected_gpus),
        ("check_timestamp_seconds", "", "When the check began, in seconds since 1970.", finding.checked_at),
        ("check_duration_seconds", "", "How long the check took.", round(finding.seconds, 3)),
    ]
    return "".join(
        f"# HELP {_METRIC}_{name} {text}\n# TYPE {_METRIC}_{name} gauge\n{_METRIC}_{name}{of} {value}\n"
        for name, of, text, value in rows
    )


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
