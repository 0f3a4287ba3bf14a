"""One look at the environment in use, whatever state it is in; the program as one file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.check.probe import CheckOutcome
from ansible.module_utils.tensorflow_stack.errors import NotStartedError, StackError
from ansible.module_utils.tensorflow_stack.health import main, program

NAME = "tensorflow-2.15.1"


class Node:
    """A root with one environment, whose check is what a test says."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = path / "root"
        (self.root / NAME / "bin").mkdir(parents=True)
        self.entry: dict[str, Any] = {"release": "2.15.1", "flavour": "cuda"}
        self.outcome = CheckOutcome("libraries_ok", "fine")
        self.outcome.report["driver"] = {"module": {"version": "575.0"}, "nvml": None, "libcuda": {"gpus": [{}, {}]}}
        self.expected: dict[str, Any] = {}
        monkeypatch.setattr(main, "look", self.look)

    def look(self, python: str, expected: dict[str, Any], *, time_limit: float) -> CheckOutcome:
        self.expected = expected
        assert python == str(self.root / NAME / "bin" / "python")
        return self.outcome

    def find(self, name: str = "", current: str | None = NAME) -> dict[str, Any]:
        content = {"schema": 1, "current": current, "environments": {NAME: self.entry}}
        (self.root / "manifest.json").write_text(json.dumps(content))
        return main.find(str(self.root), name, time_limit=5)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


def test_the_environment_in_use_is_looked_at(node: Node) -> None:
    assert node.find() == {
        "is_healthy": True,
        "verdict": "libraries_ok",
        "reason": "fine",
        "environment": NAME,
        "release": "2.15.1",
        "driver": "575.0",
        "gpus": 2,
        "expected_gpus": 1,
    }
    least = {"release": "2.15.1", "expect_gpu": True, "gpu_count": 0, "gpu_addresses": [], "cudnn_floor": None}
    assert node.expected == least


def test_what_the_last_check_expected_is_expected(node: Node) -> None:
    """Also after a rollback: it is kept with each environment."""
    expected = {"release": "2.15.1", "expect_gpu": True, "gpu_count": 8, "gpu_addresses": [], "cudnn_floor": "8.9.4"}
    check = {"verdict": "ok", "reason": "", "evidence_sha256": "", "checked_at": "", "report": {}, "expected": expected}
    node.entry["check"] = check
    assert node.find()["expected_gpus"] == 8
    assert node.expected == expected


def test_an_environment_for_the_cpu_expects_no_gpu(node: Node) -> None:
    node.entry["flavour"] = "cpu"
    assert node.find()["expected_gpus"] == 0
    assert node.expected["expect_gpu"] is False


def test_a_bad_verdict_is_not_healthy(node: Node) -> None:
    node.outcome = CheckOutcome("driver_missing", "There is no driver.")
    assert (node.find()["is_healthy"], node.find()["verdict"]) == (False, "driver_missing")


def test_a_node_that_is_too_busy_is_not_drained(node: Node) -> None:
    node.outcome = CheckOutcome("timed_out", "Not done at the time limit, after 3 stages.")
    assert (node.find()["is_healthy"], node.find()["verdict"]) == (None, "timed_out")


@pytest.mark.parametrize(
    ("name", "current", "reason"),
    [("", None, "has no environment in use."), ("other", NAME, "has no environment other.")],
)
def test_what_does_not_exist_is_unknown(node: Node, name: str, current: str | None, reason: str) -> None:
    found = node.find(name, current)
    assert (found["is_healthy"], found["verdict"]) == (None, "not_checked")
    assert found["reason"].endswith(reason)


def test_a_python_that_does_not_start_is_not_healthy(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*_: Any, **__: Any) -> CheckOutcome:
        raise NotStartedError(["python"], "No such file or directory")

    monkeypatch.setattr(main, "look", look)
    assert (node.find()["is_healthy"], node.find()["verdict"]) == (False, "environment_missing")


def test_a_damaged_manifest_is_unknown(node: Node) -> None:
    (node.root / "manifest.json").mkdir()
    found = main.find(str(node.root), "", time_limit=5)
    assert found["is_healthy"] is None
    assert "manifest.json" in found["reason"]


def test_three_files_are_written_whole(node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node.find()
    settings = {"root": str(node.root), "environment": "", "results": str(tmp_path), "time_limit": 5}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    assert main.main([str(tmp_path / "settings.json")]) == 0
    assert capsys.readouterr().out == "libraries_ok: fine\n"
    found = json.loads((tmp_path / "health.json").read_text())
    assert (found["schema"], found["is_healthy"], found["gpus"]) == (1, True, 2)
    assert (tmp_path / "status").read_text().startswith("0 ")
    assert "tensorflow_health_gpus 2\n" in (tmp_path / "health.prom").read_text()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.suffix != ".json"} >= {0o644}


def test_the_program_is_one_file_that_runs_by_itself(tmp_path: Path) -> None:
    """Of the modules that Ansible sends; it needs no other of this toolkit, and none of Ansible's."""
    path, settings = tmp_path / "health.pyz", tmp_path / "settings.json"
    path.write_bytes(program.pack())
    with zipfile.ZipFile(path) as archive:
        assert not any(b"import ansible" in archive.read(name) for name in archive.namelist())
    root = {"root": str(tmp_path / "none"), "environment": "", "results": str(tmp_path), "time_limit": 5}
    settings.write_text(json.dumps(root))
    run = [sys.executable, "-I", str(path), str(settings)]
    done = subprocess.run(run, cwd="/", env={"PATH": os.defpath}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"not_checked: {tmp_path}/none has no environment in use.\n"
    assert program.pack() == path.read_bytes()


@pytest.fixture
def has_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program.os, "geteuid", lambda: 0)
    monkeypatch.setattr(program.os.path, "isdir", lambda path: True)


@pytest.mark.usefixtures("has_systemd")
def test_the_file_is_written_once_and_removed_once(tmp_path: Path) -> None:
    path = tmp_path / "lib" / "health.pyz"
    assert program.present(str(path), check_mode=True) and not path.exists()
    assert program.present(str(path), check_mode=False) and path.exists()
    assert not program.present(str(path), check_mode=False)
    assert program.absent(str(path), check_mode=True) and path.exists()
    assert program.absent(str(path), check_mode=False)
    assert not program.absent(str(path), check_mode=False)


@pytest.mark.parametrize(
    ("uid", "message"),
    [
        (1000, "The health check is a service of the system. Run as root, such as by ansible_become=true."),
        (0, "The health check is a service of systemd, and systemd does not run on this node."),
    ],
)
def test_no_other_user_and_no_node_without_systemd(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uid: int, message: str
) -> None:
    monkeypatch.setattr(program.os, "geteuid", lambda: uid)
    monkeypatch.setattr(program.os.path, "isdir", lambda path: False)
    for apply in (program.present, program.absent):
        with pytest.raises(StackError) as caught:
            apply(str(tmp_path / "health.pyz"), check_mode=False)
        assert caught.value.message == message
