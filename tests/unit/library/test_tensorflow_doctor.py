from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.tensorflow_stack.check import doctor, probe
from ansible.module_utils.tensorflow_stack.tables.load import load_tables

from tests import nodes

RunModule = Callable[..., dict[str, Any]]

REPOSITORY = Path(__file__).resolve().parents[3]
CAPTURES = REPOSITORY / "tests" / "data" / "captures"
# As they come from YAML through Ansible: lists, not tuples.
TABLES = load_tables(str(REPOSITORY / "roles/tensorflow_release/files/tables"))
ROWS = json.loads(json.dumps([row._asdict() for row in TABLES.diagnoses]))
LINE_ROWS = json.loads(json.dumps([row._asdict() for row in TABLES.log_lines]))
LOGS = REPOSITORY / "tests" / "data" / "logs"
EXPECTED = yaml.safe_load((LOGS / "expected.yml").read_text(encoding="utf-8"))


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Makes the doctor see a recorded node, on which nothing is asked of the system."""

    def see(name: str, **changes: Any) -> dict[str, Any]:
        record = {**nodes.read(name, tmp_path), **changes}
        monkeypatch.setattr(doctor, "read_node", lambda **_: record)
        monkeypatch.setattr(doctor, "_system_text", lambda _: "")
        for name in ("TF_CPP_MAX_VLOG_LEVEL", "TF_CPP_VMODULE"):
            monkeypatch.setenv(name, "1")  # the module sets them for its process: taken back after the test
        return record

    return see


def test_a_log_tells_its_cause(run_module: RunModule) -> None:
    text = (CAPTURES / "cudnn_too_old/tf2.21.M-cudnnold.txt").read_text(encoding="utf-8")
    result = run_module("tensorflow_doctor", text=text, diagnoses=ROWS)
    assert (result["healthy"], result["changed"], result["verdict"]) == (False, False, None)
    assert [cause["cause"] for cause in result["causes"]] == ["cudnn_too_old"]
    assert "cuDNN 9.1.0 is loaded" in result["lines"][3]
    assert any(line.startswith("   do: ") for line in result["lines"])


@pytest.mark.parametrize("row", EXPECTED, ids=[row["file"] for row in EXPECTED])
def test_a_log_as_users_have_it(run_module: RunModule, row: dict[str, Any]) -> None:
    result = run_module("tensorflow_doctor", log=str(LOGS / row["file"]), diagnoses=ROWS, log_lines=LINE_ROWS)
    assert [cause["cause"] for cause in result["causes"]] == row.get("causes", [])
    assert result["healthy"] is row["healthy"]
    quoted = "\n".join(result["log_tail"])
    assert all(quote in quoted for quote in row.get("quotes", []))
    assert len(result["log_tail"]) <= 5


def test_every_log_is_expected() -> None:
    there = {path.name for path in LOGS.iterdir()} - {"README.md", "expected.yml"}
    assert there == {row["file"] for row in EXPECTED}


def test_an_unknown_log_is_not_a_good_one(run_module: RunModule) -> None:
    result = run_module("tensorflow_doctor", text="start\nfatal: no idea\n\n", diagnoses=ROWS, log_lines=LINE_ROWS)
    assert result["lines"] == [
        "unknown: the log",
        "  2 lines read: 1 of them looks like a fault.",
        "",
        "No known cause fits. Lines that look like a fault:",
        "   fatal: no idea",
        "   do: Report it with the log, so that it is known next time: 'A cause' in CONTRIBUTING.md.",
    ]


@pytest.mark.parametrize("text", ["", " \n\n"])
def test_an_empty_log(run_module: RunModule, text: str) -> None:
    result = run_module("tensorflow_doctor", text=text, diagnoses=ROWS, log_lines=LINE_ROWS)
    assert not result["healthy"]
    assert result["lines"] == ["unknown: the log", "  The log is empty."]


def test_a_healthy_log_says_why(run_module: RunModule) -> None:
    log = str(CAPTURES / "healthy/tf2.21.xla2.txt")
    result = run_module("tensorflow_doctor", log=log, diagnoses=ROWS, log_lines=LINE_ROWS)
    assert result["healthy"]
    assert result["lines"][0] == "healthy: the log"
    assert result["lines"][1].endswith(": TensorFlow computed, and no line looks like a fault.")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("failed.log", "log is 'failed.log': give an absolute path."),
        ("/dev/zero", "The log /dev/zero is a device. Write the text to a file, and name that file."),
        ("/nowhere/failed.log", "The log /nowhere/failed.log does not exist. Name an existing file."),
    ],
)
def test_what_is_no_log_is_refused(run_module: RunModule, path: str, message: str) -> None:
    result = run_module("tensorflow_doctor", log=path, diagnoses=ROWS)
    assert (result["failed"], result["msg"]) == (True, message)


def test_a_node_where_nothing_was_applied(run_module: RunModule, node: Callable[..., Any]) -> None:
    node("pascal_nouveau", manifest=None)
    result = run_module("tensorflow_doctor", diagnoses=ROWS)
    assert (result["subject"], result["healthy"], result["verdict"]) == ("this node", False, None)
    assert result["causes"][0]["cause"] == "nouveau_bound"
    assert run_module("tensorflow_doctor", diagnoses=ROWS, expect_gpu=False)["healthy"]


def test_an_environment_that_is_not_there(run_module: RunModule, node: Callable[..., Any]) -> None:
    node("no_gpu_debian12")
    result = run_module("tensorflow_doctor", environment="mine", diagnoses=ROWS)
    assert result["failed"]
    assert "There is no environment mine below" in result["msg"]


def test_a_python_by_a_relative_path(run_module: RunModule) -> None:
    result = run_module("tensorflow_doctor", python="venv", diagnoses=ROWS)
    assert result["msg"] == "python is 'venv': give an absolute path."


def test_a_python_that_does_not_start(run_module: RunModule, node: Callable[..., Any], tmp_path: Path) -> None:
    node("no_gpu_debian12")
    result = run_module("tensorflow_doctor", python=str(tmp_path), diagnoses=ROWS)
    assert result["subject"] == str(tmp_path / "bin" / "python")
    assert (result["verdict"], result["causes"][0]["cause"]) == ("environment_missing", "environment_missing")


def test_a_python_without_tensorflow(run_module: RunModule, node: Callable[..., Any], tmp_path: Path) -> None:
    node("no_gpu_debian12")
    result = run_module("tensorflow_doctor", python=sys.executable, diagnoses=ROWS)
    assert (result["verdict"], result["causes"][0]["cause"]) == ("import_failed", "tensorflow_missing")
    assert result["versions"]["driver"] == "none"


def test_old_messages_do_not_count_where_all_is_well(
    run_module: RunModule, node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    node("a100_driver535")
    monkeypatch.setattr(doctor, "_system_text", lambda _: "NVRM: GPU 0000:01:00.0 is already bound to nouveau.")
    monkeypatch.setattr(probe, "examine", lambda *_, **__: probe.CheckOutcome("ok", "computed"))
    result = run_module("tensorflow_doctor", python=sys.executable, diagnoses=ROWS)
    assert (result["healthy"], result["causes"]) == (True, [])


def test_where_no_cause_fits_the_log_is_shown(
    run_module: RunModule, node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    node("a100_driver535")
    outcome = probe.CheckOutcome("killed", "Ended by SIGABRT.", stderr_tail=["something new"])
    monkeypatch.setattr(probe, "examine", lambda *_, **__: outcome)
    result = run_module("tensorflow_doctor", python=sys.executable, diagnoses=ROWS)
    assert not result["healthy"]
    assert result["lines"][-2:] == ["No known cause fits. Last in the log:", "   something new"]


@pytest.mark.parametrize(("flavour", "expected"), [("cuda", True), ("cpu", False)])
def test_an_environment_for_the_cpu_needs_no_gpu(
    run_module: RunModule, node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, flavour: str, expected: bool
) -> None:
    seen: dict[str, Any] = {}

    def examine(python: str, **arguments: Any) -> probe.CheckOutcome:
        seen.update(arguments, python=python)
        return probe.CheckOutcome("ok", "")

    environment = {"name": "mine", "flavour": flavour}
    root = {"path": "/opt/tensorflow"}
    node("a100_driver535", environments=[environment], manifest={"current": "mine"}, environments_root=root)
    monkeypatch.setattr(doctor, "check_root", lambda _: None)
    monkeypatch.setattr(probe, "examine", examine)
    run_module("tensorflow_doctor", diagnoses=ROWS)
    assert (seen["python"], seen["expect_gpu"]) == ("/opt/tensorflow/mine/bin/python", expected)


def test_what_the_system_says_is_kept_as_far_as_it_is_about_the_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = {
        "nvidia-smi": "Failed to initialize NVML: Driver/library version mismatch\n",
        "dmesg": "",
        "journalctl": "kernel: usb 1-1: new device\nkernel: NVRM: API mismatch: the client has the version 1\n",
        "dpkg-query": "ii  bash 5\niF  nvidia-dkms 535\nii  libcuda1 535\n",
    }
    monkeypatch.setattr(doctor, "_run", lambda command: said[command[0]])
    record = nodes.read("a100_driver535", tmp_path)
    assert doctor._system_text(record).splitlines() == [
        "Failed to initialize NVML: Driver/library version mismatch",
        "kernel: NVRM: API mismatch: the client has the version 1",
        "iF  nvidia-dkms 535",
    ]
    record["driver"]["loaded"] = None
    assert "NVML" not in doctor._system_text(record)


def test_a_command_that_hangs_or_is_not_there_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_COMMAND_SECONDS", 0.2)
    assert doctor._run(["sleep", "5"]) == ""
    assert doctor._run(["no-such-command"]) == ""


def test_distributions_are_read_from_their_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("numpy-1.23.5.dist-info", "tensorflow_cpu-2.8.0.dist-info", "six-1.16.0-py3.9.egg-info", "numpy"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(doctor, "_run", lambda _: json.dumps([str(tmp_path), "/nowhere"]))
    assert doctor._distributions("python") == {"numpy": "1.23.5", "six": "1.16.0", "tensorflow-cpu": "2.8.0"}


@pytest.fixture
def failed_build(tmp_path: Path) -> Path:
    """A root with the log of a first build that failed, and nothing else."""
    root = tmp_path / "root"
    (root / ".builds").mkdir(parents=True)
    (root / ".builds" / "mine.log").write_text("error: Failed to fetch: dns error\nNo space left on device\n")
    return root


def test_where_nothing_was_applied_the_log_of_the_last_build_counts(
    run_module: RunModule, node: Callable[..., Any], failed_build: Path
) -> None:
    node("a100_driver535", manifest=None, environments=[], environments_root={"path": str(failed_build)})
    result = run_module("tensorflow_doctor", diagnoses=ROWS)
    assert [cause["cause"] for cause in result["causes"]] == ["no_network", "disk_full"]
    named = run_module("tensorflow_doctor", environment="mine", diagnoses=ROWS)
    assert named["subject"] == "the last build of mine"
    assert named["causes"] == result["causes"]
    assert (
        "There is no environment other" in run_module("tensorflow_doctor", environment="other", diagnoses=ROWS)["msg"]
    )


def test_the_log_of_the_last_failed_check_counts_after_what_is_seen_now(
    run_module: RunModule, node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, failed_build: Path
) -> None:
    (failed_build / ".builds" / "mine.log").unlink()
    (failed_build / ".builds" / "mine.check").write_text("ValueError: Duplicate plugins for name projector")
    environments = [{"name": "mine", "flavour": "cpu"}]
    root = {"path": str(failed_build)}
    node("a100_driver535", environments=environments, manifest={"current": "mine"}, environments_root=root)
    outcome = probe.CheckOutcome("killed", "Ended.", stderr_tail=["No module named 'imp'"])
    monkeypatch.setattr(probe, "examine", lambda *_, **__: outcome)
    result = run_module("tensorflow_doctor", diagnoses=ROWS)
    assert [cause["cause"] for cause in result["causes"]] == ["python_too_new", "tensorboard_twice"]
    monkeypatch.setattr(probe, "examine", lambda *_, **__: probe.CheckOutcome("ok", "computed"))
    assert run_module("tensorflow_doctor", diagnoses=ROWS)["causes"] == []


CU_INIT = "E cuda_driver.cc:318] failed call to cuInit: UNKNOWN ERROR (303)"


@pytest.mark.parametrize(
    ("before", "healthy"),
    [
        ("", False),
        ("Successfully installed numpy-1.23.5 tensorflow-cpu-2.8.0", True),
        ("tensorflow-cpu==2.8.0", True),
        ("$ CUDA_VISIBLE_DEVICES=-1 python train.py", True),
        ("cpu_only_no_gpu: TensorFlow 2.8.0 computed the right numbers on /device:CPU:0; no GPU was expected.", True),
        ("$ CUDA_VISIBLE_DEVICES=0 python train.py", False),
    ],
)
def test_a_build_for_the_cpu_needs_no_driver(run_module: RunModule, before: str, healthy: bool) -> None:
    text = f"{before}\n{CU_INIT}"
    result = run_module("tensorflow_doctor", text=text, diagnoses=ROWS, log_lines=LINE_ROWS)
    causes = [cause["cause"] for cause in result["causes"]]
    assert causes == ([] if healthy else ["driver_not_installed"])
    assert result["faults"] == 0


@pytest.fixture
def image(node: Callable[..., Any], tmp_path: Path) -> Path:
    """The file of an image that is not mounted, though its environment was applied last."""
    root = tmp_path / "root"
    build = root / ".builds" / "tensorflow-2.8.0-1a2b3c4d5e6f-1"
    build.mkdir(parents=True)
    (root / "tensorflow-2.8.0").symlink_to(f".builds/{build.name}")
    sha256 = hashlib.sha256(b"an image").hexdigest()
    (root / ".images").mkdir()
    file = root / ".images" / f"{sha256}.squashfs"
    file.write_bytes(b"an image")
    note = {"sha256": sha256, "bytes": 8, "verity_sha256": "", "root_hash": "", "protection": "compared"}
    (root / ".images" / f"{build.name}.json").write_text(json.dumps({**note, "complete": True}))
    manifest = {"current": "tensorflow-2.8.0", "environments": {"tensorflow-2.8.0": {"flavour": "cpu"}}}
    node("no_gpu_debian12", environments_root={"path": str(root)}, environments=[], manifest=manifest)
    return file


def test_an_image_that_is_not_mounted_is_named_with_what_to_do(run_module: RunModule, image: Path) -> None:
    result = run_module("tensorflow_doctor", diagnoses=ROWS)
    (cause,) = result["causes"]
    environment = image.parent.parent / "tensorflow-2.8.0"
    assert (result["subject"], result["healthy"], cause["cause"]) == (str(environment), False, "image_not_mounted")
    assert cause["says"] == f"The environment is an image that is not mounted at {environment.resolve()}."
    assert f"`systemctl status {environment.resolve()}` says why" in cause["do"]


def test_an_image_that_was_changed_is_why_it_is_not_mounted(run_module: RunModule, image: Path) -> None:
    image.write_bytes(b"another")
    result = run_module("tensorflow_doctor", diagnoses=ROWS)
    named = [(cause["cause"], cause["follows"]) for cause in result["causes"]]
    assert named == [("image_changed", None), ("image_not_mounted", "image_changed")]


def test_an_image_that_was_changed_under_its_mount(
    run_module: RunModule, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image.write_bytes(b"another")
    root = image.parent.parent
    program = root / "tensorflow-2.8.0" / "bin" / "python"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    doctor.read_node()["environments"].append({"name": "tensorflow-2.8.0", "flavour": "cpu"})
    monkeypatch.setattr(os.path, "ismount", lambda _: True)
    result = run_module("tensorflow_doctor", diagnoses=ROWS)
    first = result["causes"][0]
    assert first["says"] == (
        f"The environment is an image, and its file {image} is not the one that was fetched, or cannot be read."
    )
    assert "it fetches the image again" in first["do"]
