"""What the doctor says of what it found, and which Python it starts. Its module's tests examine whole nodes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.check import doctor
from ansible.module_utils.tensorflow_stack.check.diagnose import Cause
from ansible.module_utils.tensorflow_stack.errors import StackError


def cause(name: str) -> Cause:
    return Cause(name, "driver", f"{name} is wrong.", f"Mend {name}.", [f"a line about {name}"])


def test_the_first_cause_is_what_to_do_and_the_others_come_after() -> None:
    examination = doctor.Examination(
        "/opt/python", healthy=False, causes=[cause("one"), cause("two"), cause("three")], verdict="no_gpu"
    )
    assert doctor.describe(examination) == [
        "not healthy: /opt/python (no_gpu)",
        "",
        "1. one: one is wrong.",
        "   because: a line about one",
        "   do: Mend one.",
        "",
        "After that, if still present:",
        "",
        "2. two: two is wrong.",
        "   because: a line about two",
        "   do: Mend two.",
        "",
        "3. three: three is wrong.",
        "   because: a line about three",
        "   do: Mend three.",
    ]


def test_a_healthy_subject_has_no_log() -> None:
    examination = doctor.Examination(
        "this node", healthy=True, causes=[], versions={"driver": "535.1", "numpy": "1.23.5"}, log_tail=["line"]
    )
    assert doctor.describe(examination) == ["healthy: this node", "  driver 535.1; numpy 1.23.5"]


def test_a_line_of_a_log_is_shown_as_far_as_it_can_be_read() -> None:
    examination = doctor.Examination("the log", healthy=False, causes=[], log_tail=["x" * 5000], faults=1)
    lines = doctor.describe(examination)
    assert lines[-2] == "   " + "x" * 400
    assert lines[-3] == "No known cause fits. Lines that look like a fault:"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    (path / "mine" / "bin").mkdir(parents=True)
    (path / "mine" / "bin" / "python").touch()
    return path


def record(root: Path, *names: str, current: str | None = None) -> dict[str, object]:
    return {
        "environments_root": {"path": str(root)},
        "environments": [{"name": name, "flavour": "cuda"} for name in names],
        "manifest": {"current": current} if current else None,
    }


def test_the_environment_that_was_applied_last_is_meant_unless_one_is_named(root: Path) -> None:
    known, python = doctor._environment(record(root, "mine", "other", current="mine"), None)
    assert known == {"name": "mine", "flavour": "cuda"}
    assert python == str(root / "mine" / "bin" / "python")
    (root / "other" / "bin").mkdir(parents=True)
    assert doctor._environment(record(root, "mine", "other", current="mine"), "other")[1] == f"{root}/other/bin/python"
    assert doctor._environment(record(root), None) == (None, None)


def test_one_that_is_not_there_is_refused_with_those_that_are(root: Path) -> None:
    with pytest.raises(StackError) as raised:
        doctor._environment(record(root, "b", "a"), "mine")
    assert raised.value.message == (f"There is no environment mine below {root}; there is a, b. Name one of these.")


def test_no_python_is_started_from_a_root_that_others_may_write(root: Path) -> None:
    root.chmod(0o777)
    with pytest.raises(StackError, match="an environment there would run their code"):
        doctor._environment(record(root, "mine", current="mine"), None)


def test_of_two_directories_the_one_that_python_searches_first_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for directory, version in (("first", "2.8.0"), ("second", "2.21.0")):
        (tmp_path / directory / f"tensorflow-{version}.dist-info").mkdir(parents=True)
    searched = [str(tmp_path / name) for name in ("first", "second")]
    monkeypatch.setattr(doctor, "_run", lambda _: json.dumps(searched))
    assert doctor._distributions("python") == {"tensorflow": "2.8.0"}
    monkeypatch.setattr(doctor, "_run", lambda _: "")
    assert doctor._distributions("a python that does not start") == {}


def test_a_command_is_heard_whatever_its_exit_status_in_english_and_in_any_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf 'No devices \\377 %s %s\\n' $LC_ALL $PWD\nexit 6\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert doctor._run(["nvidia-smi"]) == "No devices � C /\n"
