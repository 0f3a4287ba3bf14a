"""The files of the role tensorflow_health: what a shell, Slurm and Node Problem Detector make of a result."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import jinja2
import jsonschema
import pytest

ROLE = Path(__file__).resolve().parents[2] / "roles" / "tensorflow_health"
# Its fields, their types and limits are those of NPD's configuration (docs/custom_plugin_monitor.md and
# pkg/custompluginmonitor/types of kubernetes/node-problem-detector, read 2026-11-26).
SECONDS = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}
TEXT = {"type": "string", "minLength": 1}
NODE_PROBLEM_DETECTOR = {
    "type": "object",
    "additionalProperties": False,
    "required": ["plugin", "source", "conditions", "rules"],
    "properties": {
        "plugin": {"const": "custom"},
        "pluginConfig": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "invoke_interval": SECONDS,
                "timeout": SECONDS,
                "max_output_length": {"type": "integer", "minimum": 1},
                "concurrency": {"type": "integer", "minimum": 1},
                "enable_message_change_based_condition_update": {"type": "boolean"},
                "skip_initial_status": {"type": "boolean"},
            },
        },
        "source": TEXT,
        "metricsReporting": {"type": "boolean"},
        "conditions": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["type", "reason", "message"],
                "properties": {"type": TEXT, "reason": TEXT, "message": TEXT},
            },
        },
        "rules": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["type", "reason", "path"],
                "properties": {
                    "type": {"enum": ["temporary", "permanent"]},
                    "condition": TEXT,
                    "reason": {"type": "string", "pattern": "^[A-Z][A-Za-z0-9]+$"},
                    "path": {"type": "string", "pattern": "^/"},
                    "args": {"type": "array", "items": {"type": "string"}},
                    "timeout": SECONDS,
                },
            },
        },
    },
}


def render(name: str, **variables: object) -> str:
    environment = jinja2.Environment(keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    environment.filters["to_nice_json"] = json.dumps
    text = (ROLE / "templates" / f"{name}.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(ansible_managed="Ansible managed", **variables)


class Node:
    """The results of the health check, and doubles of Slurm's programs that write down what they are asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reader = self._script("tensorflow-health", tensorflow_health_interval=300)
        slurm = render("tensorflow-health-slurm.sh", tensorflow_health_slurm_node="gpu01")
        self.slurm = path / "tensorflow-health-slurm"
        self.slurm.write_text(slurm.replace("/usr/local/sbin/tensorflow-health", str(self.reader)))
        (path / "bin").mkdir()
        self.double("sinfo", "cat $STATE")
        self.double("scontrol", 'printf "%s\\n" "$*" >> $STATE.asked')

    def _script(self, name: str, **variables: object) -> Path:
        path = self.path / name
        path.write_text(render(f"{name}.sh", tensorflow_health_results=str(self.path), **variables))
        path.chmod(0o755)
        return path

    def double(self, name: str, body: str) -> None:
        path = self.path / "bin" / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def write(self, code: object, message: str, *, age: int = 10) -> None:
        (self.path / "status").write_text(f"{code} {int(time.time()) - age} {message}\n")

    def run(self, script: Path, *arguments: str, state: str = "idle|none") -> subprocess.CompletedProcess[str]:
        (self.path / "state").write_text(f"{state}\n")
        environment = {"PATH": f"{self.path}/bin:{os.defpath}", "STATE": str(self.path / "state"), "LC_ALL": "C"}
        command = ["/bin/sh", str(script), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    @property
    def asked(self) -> str:
        path = self.path / "state.asked"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.parametrize(
    ("code", "message"), [(0, "libraries_ok: fine"), (1, "driver_missing: none"), (2, "not_checked: no root")]
)
def test_the_exit_code_is_that_of_the_result(node: Node, code: int, message: str) -> None:
    node.write(code, message)
    done = node.run(node.reader)
    assert (done.returncode, done.stdout, done.stderr) == (code, f"{message}\n", "")


def test_no_result_is_unknown(node: Node) -> None:
    done = node.run(node.reader)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == "there is no result of the health check yet: systemctl status tensorflow-health.timer\n"


def test_an_old_result_is_unknown(node: Node) -> None:
    node.write(0, "libraries_ok: fine", age=2000)
    done = node.run(node.reader)
    assert done.returncode == 2
    assert re.match(r"the last result is 200\d s old: ", done.stdout)


@pytest.mark.parametrize("text", ["", "\n", "$(touch owned) 1 x\n", "7 x y\n", "0\n", "0 -5 x\n"])
def test_what_is_damaged_is_unknown(node: Node, text: str) -> None:
    """The user of the check may write it, and root reads it."""
    (node.path / "status").write_text(text)
    assert node.run(node.reader).returncode == 2
    assert not (node.path / "owned").exists()


def test_the_message_is_as_long_as_is_asked_for(node: Node) -> None:
    node.write(1, "x" * 500)
    assert node.run(node.reader, "80").stdout == "x" * 80 + "\n"


@pytest.mark.parametrize(
    ("code", "state", "asked"),
    [
        (0, "idle|none", ""),
        (1, "idle|none", "update NodeName=gpu01 State=DRAIN Reason=tensorflow-health: driver_missing: $(reboot)\n"),
        (1, "mixed|none", "update NodeName=gpu01 State=DRAIN Reason=tensorflow-health: driver_missing: $(reboot)\n"),
        (1, "drained|tensorflow-health: driver_missing: $(reboot)", ""),
        (1, "draining|broken fan", ""),
        (1, "down*|Not responding", ""),
        (0, "drained|tensorflow-health: driver_missing: $(reboot)", "update NodeName=gpu01 State=RESUME\n"),
        # Of a person, and of a run of the fleet.
        (0, "drained|broken fan", ""),
        (0, "drained|tensorflow-gpu-stack", ""),
        (2, "idle|none", ""),
        (2, "drained|tensorflow-health: driver_missing", ""),
    ],
)
def test_slurm_is_asked_to_drain_and_to_resume(node: Node, code: int, state: str, asked: str) -> None:
    node.write(code, "driver_missing: $(reboot)")
    done = node.run(node.slurm, state=state)
    assert (done.returncode, done.stderr) == (code, "")
    assert node.asked == asked


def test_node_problem_detector_takes_its_configuration() -> None:
    content = json.loads(render("node-problem-detector.json"))
    jsonschema.validate(content, NODE_PROBLEM_DETECTOR)
    conditions = {condition["type"] for condition in content["conditions"]}
    settings = content["pluginConfig"]
    for rule in content["rules"]:
        assert rule["type"] == "permanent" and rule["condition"] in conditions
        # Otherwise NPD does not start.
        assert int(rule["timeout"][:-1]) <= int(settings["timeout"][:-1])
        assert rule["args"] == [str(settings["max_output_length"])]
