"""`make doctor` as an operator runs it: on a Python that somebody else filled, on this node, on a log."""

from __future__ import annotations

import os
import re
import subprocess
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.io.uv import uv_environment

from tests.needs import python_of
from tests.playbooks import REPOSITORY, Run, Site, run_playbook

pytestmark = pytest.mark.integration

CAPTURES = REPOSITORY / "tests" / "data" / "captures"
# Says what the real one said, and fails as it did.
STAND_IN = """
import pathlib, sys
sys.stderr.write(pathlib.Path({log!r}).read_text().partition("\\n")[2])
raise {error}
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[[str, str], Path]:
    """A virtual environment whose TensorFlow is a few lines that leave the log of the real one."""

    def make(capture: str, error: str) -> Path:
        environment = tmp_path / "mine"
        venv.create(environment, symlinks=True)
        (packages,) = environment.glob("lib/python*/site-packages")
        for name in ("numpy", "tensorflow"):
            (packages / name).mkdir()
            (packages / name / "__init__.py").write_text("")
            (packages / f"{name}-1.0.dist-info").mkdir()
        source = STAND_IN.format(log=str(CAPTURES / f"{capture}.txt"), error=error)
        (packages / "tensorflow" / "__init__.py").write_text(source)
        return environment

    return make


def said(run: Run) -> str:
    """Its output in one line: where it is wrapped depends on the length of paths."""
    return " ".join(run.output.split())


def is_unchanged(run: Run) -> bool:
    return run.changed == {"localhost": 0}


@pytest.mark.oldest_core
def test_a_python_whose_tensorflow_does_not_import(site: Site, stand_in: Callable[[str, str], Path]) -> None:
    error = "TypeError('Descriptors cannot be created directly.')"
    run = site.play("doctor", doctor_python=str(stand_in("protobuf_too_new/tf28_protobuf", error)))
    assert run.code != 0
    assert is_unchanged(run)
    assert "mine/bin/python (import_failed)" in said(run)
    assert "numpy 1.0; tensorflow 1.0; driver" in run.output
    assert "1. protobuf_too_new: protobuf is newer than this TensorFlow can use." in run.output
    assert "do: Run `make workstation` with the release: its lock has `protobuf<3.21`." in run.output


def test_a_python_whose_tensorflow_finds_no_cuda(site: Site, stand_in: Callable[[str, str], Path]) -> None:
    """With a GPU asked for on a machine that may have none: what is missing of CUDA is among what is said."""
    python = str(stand_in("cuda_library_missing/tf2.10.M-nolibs", "SystemError('ended')"))
    run = site.play("doctor", doctor_python=python, tensorflow_gpu="required")
    assert run.code != 0
    assert "cuda_library_missing: TensorFlow does not find libcudart.so.11.0, libcublas.so.11" in said(run)
    without = site.play("doctor", doctor_python=python, tensorflow_gpu="none")
    assert without.code != 0
    assert "No known cause fits. Last in the log:" in without.output


@pytest.mark.parametrize(
    ("capture", "cause"),
    [
        ("driver_mismatch/nvidia-smi550", "driver_mismatch"),
        pytest.param("packages_interrupted/apt", "packages_interrupted", marks=pytest.mark.slow),
        pytest.param("healthy/tf2.21.M-ok", None, marks=pytest.mark.slow),
        ("healthy/tf2.21.xla2", None),
    ],
)
def test_a_log(site: Site, capture: str, cause: str | None) -> None:
    run = site.play("doctor", doctor_log=str(CAPTURES / f"{capture}.txt"))
    assert (run.code == 0) is (cause is None)
    assert (f"1. {cause}: " if cause else "healthy: the log") in run.output
    assert is_unchanged(run)


@pytest.mark.oldest_core
def test_a_log_of_any_bytes_is_read_as_it_is(site: Site, tmp_path: Path) -> None:
    """Not templated, and as text that Ansible can carry."""
    log = tmp_path / "any.log"
    log.write_bytes(b"fatal: caf\xe9 {{ 6 * 7 }} {% raw \xed\xa0\x80 \x00 \x1b[31mred\n")
    run = site.play("doctor", doctor_log=str(log))
    assert run.code != 0
    assert "unknown: the log" in run.output
    assert "fatal: caf\ufffd {{ 6 * 7 }} {% raw \ufffd\ufffd\ufffd  red" in run.output
    assert is_unchanged(run)


def test_a_log_is_read_on_the_controller_and_once(site: Site, tmp_path: Path) -> None:
    inventory = tmp_path / "hosts"
    inventory.write_text("gpu01 ansible_host=192.0.2.1\ngpu02 ansible_host=192.0.2.2\n")
    command = site.command("doctor", doctor_log=str(CAPTURES / "healthy/tf2.21.xla2.txt"))
    command[command.index("-i") + 1] = str(inventory)
    run = run_playbook(command, directory=REPOSITORY)
    assert run.code == 0, run.output
    assert run.output.count("healthy: the log") == 1
    assert sum(counts["unreachable"] for counts in run.recap.values()) == 0


@pytest.mark.parametrize("kind", [pytest.param("device", marks=pytest.mark.slow), "pipe", "directory"])
def test_what_is_no_log_is_refused_at_once(site: Site, tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = {"device": "/dev/zero", "pipe": str(tmp_path / "pipe"), "directory": str(tmp_path)}[kind]
    run = site.play("doctor", doctor_log=path)
    assert run.code != 0
    said = " ".join(run.output.split())  # Ansible breaks long lines
    assert f"The log {path} is a {kind}. Write the text to a file, and name that file." in said


def test_an_environment_that_is_not_there(site: Site) -> None:
    run = site.play("doctor", tensorflow_environment="tensorflow-2.8.0")
    assert run.code != 0
    assert "There is no environment tensorflow-2.8.0 below" in run.output


@pytest.mark.slow
def test_the_real_tensorflow_broken_and_mended(site: Site, uv: str, tmp_path: Path) -> None:
    interpreter = python_of("3.9", "3.10").path
    python = tmp_path / "venv" / "bin" / "python"

    def install(*requirements: str) -> None:
        command = [uv, "pip", "install", "-q", "--python", python, *requirements]
        subprocess.run(command, env=uv_environment(), check=True)

    def doctor() -> Run:
        return site.play("doctor", doctor_python=str(python), tensorflow_gpu="none")

    subprocess.run([uv, "venv", "-q", "--python", interpreter, tmp_path / "venv"], env=uv_environment(), check=True)
    install("tensorflow==2.8.0", "numpy==1.23.5", "keras==2.8.0", "protobuf>=4")
    assert "1. protobuf_too_new: " in doctor().output
    install("protobuf<3.21", "numpy==2.0.2")
    assert "1. numpy_too_new: " in doctor().output
    install("numpy==1.23.5")
    mended = doctor()
    assert mended.code == 0
    assert "python (cpu_only_no_gpu)" in mended.output
    without_driver = site.play("doctor", doctor_python=str(python), tensorflow_gpu="required")
    assert without_driver.code != 0
    # A container brings no driver of its own; its cause says so instead.
    assert re.search("1. (driver_not_installed|container_without_gpu): ", without_driver.output)


def test_the_report_for_an_issue_has_no_secrets(tmp_path: Path) -> None:
    root, secret = tmp_path / "root", "hunter2"
    (root / ".builds").mkdir(parents=True)
    (root / ".builds" / "tensorflow-2.8.0.log").write_text(
        f"at https://jdoe:{secret}@pypi.corp.example/simple\nfailed\n"
    )
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(
        "all: {hosts: {gpu07.corp.example: {ansible_connection: local, tensorflow_root: %s, "
        "ansible_python_interpreter: '{{ ansible_playbook_python }}', stack_report_directory: %s}}}" % (root, tmp_path)
    )
    command = ["make", "doctor", "REPORT=1", f"INVENTORY={inventory}", "ENVIRONMENT=gone"]
    run = run_playbook(command, directory=REPOSITORY)
    assert run.code == 2, "there is no such environment"
    text = (tmp_path / "issue.md").read_text()
    assert f"{tmp_path}/issue.md is the report" in said(run)
    for part in ("## Versions", "## What the doctor found", "## Plan", "## Node", "## Log: tensorflow-2.8.0.log"):
        assert part in text
    assert "at https://<credentials>@<host>/simple\nfailed" in text
    assert [word for word in (secret, "jdoe", "gpu07", "corp.example") if word in text] == []
