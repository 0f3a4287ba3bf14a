"""What a health check found, as Prometheus and a shell read it."""

from __future__ import annotations

import dataclasses
import re

import pytest
from ansible.module_utils.tensorflow_stack.health.findings import Finding, exit_code, metrics, status_line

GOOD = Finding(
    is_healthy=True,
    verdict="libraries_ok",
    reason="The driver shows test double.",
    checked_at=1764185000,
    seconds=0.21234,
    environment="tensorflow-2.15.1",
    release="2.15.1",
    driver="575.0",
    gpus=2,
    expected_gpus=2,
)
# What https://prometheus.io/docs/instrumenting/exposition_formats/ allows, as far as these metrics use it.
LABEL = r'[a-z_]+="(?:[^"\\\n]|\\[\\n"])*"'
SAMPLE = re.compile(rf"([a-z_]+)(?:\{{{LABEL}(?:,{LABEL})*\}})? ([0-9.]+)")


def samples(text: str) -> dict[str, float]:
    """By name; each has a HELP and a TYPE before it."""
    assert text.endswith("\n")
    lines = text.splitlines()
    found = {}
    for about, kind, sample in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        matched = SAMPLE.fullmatch(sample)
        assert matched, sample
        assert about.startswith(f"# HELP {matched[1]} ")
        assert kind == f"# TYPE {matched[1]} gauge"
        found[matched[1]] = float(matched[2])
    return found


def test_metrics_are_prometheus_text() -> None:
    assert samples(metrics(GOOD)) == {
        "tensorflow_health_healthy": 1,
        "tensorflow_health_info": 1,
        "tensorflow_health_gpus": 2,
        "tensorflow_health_expected_gpus": 2,
        "tensorflow_health_check_timestamp_seconds": 1764185000,
        "tensorflow_health_check_duration_seconds": 0.212,
    }
    labels = 'environment="tensorflow-2.15.1",release="2.15.1",driver="575.0",verdict="libraries_ok"'
    assert f"tensorflow_health_info{{{labels}}} 1\n" in metrics(GOOD)


@pytest.mark.parametrize("is_healthy", [False, None])
def test_what_is_unknown_is_not_healthy(is_healthy: bool | None) -> None:
    assert samples(metrics(dataclasses.replace(GOOD, is_healthy=is_healthy)))["tensorflow_health_healthy"] == 0


def test_a_label_may_hold_anything() -> None:
    text = metrics(dataclasses.replace(GOOD, environment='a"b\\c\nd'))
    samples(text)
    assert 'environment="a\\"b\\\\c\\nd"' in text


@pytest.mark.parametrize(("is_healthy", "code"), [(True, 0), (False, 1), (None, 2)])
def test_exit_codes_are_those_of_node_problem_detector(is_healthy: bool | None, code: int) -> None:
    assert exit_code(dataclasses.replace(GOOD, is_healthy=is_healthy)) == code


def test_a_shell_reads_one_line_without_control_characters() -> None:
    line = status_line(dataclasses.replace(GOOD, reason="a\nb\x1b[31m $(reboot) é"))
    assert line == "0 1764185000 libraries_ok: a b [31m $(reboot)  \n"
