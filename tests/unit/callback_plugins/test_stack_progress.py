from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import stack_progress
from ansible.inventory.group import Group
from ansible.inventory.host import Host

REPOSITORY = Path(__file__).resolve().parents[3]
INTERVAL = 0.1
NOTHING_KEPT = {"environment": None, "check": None}


@pytest.fixture
def callback() -> Iterator[stack_progress.CallbackModule]:
    module = stack_progress.CallbackModule()
    module._interval = INTERVAL
    yield module
    module.v2_playbook_on_stats(SimpleNamespace(processed={"localhost": 1}))


def make_host(name: str = "localhost", **variables: str) -> Host:
    host = Host(name)
    host.vars.update(variables)
    return host


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(stack_progress.constants, "DEFAULT_STDOUT_CALLBACK", "stack_screen")


def make_task(action: str = "tensorflow_venv", connection: str = "ssh") -> Any:
    return SimpleNamespace(_uuid=action, action=action, connection=connection, get_name=lambda: "Build it")


def make_result(host: Host, task: Any, **result: Any) -> Any:
    return SimpleNamespace(_host=host, _task=task, _result=result)


def make_plan(root: Path, *, changes: bool = True) -> dict[str, Any]:
    steps = [
        {"component": "driver", "action": "keep", "bytes": 0},
        {"component": "lock", "action": "install" if changes else "keep", "bytes": 0},
        {"component": "environment", "action": "install" if changes else "keep", "bytes": 506e6 if changes else 0},
    ]
    environment = {"name": "tensorflow-2.8.0", "root": str(root), "path": f"{root}/tensorflow-2.8.0"}
    return {
        "release": "2.8.0",
        "flavour": "cpu",
        "environment": environment,
        "steps": steps,
        "refusals": [],
        "warnings": [],
    }


def announce_plan(callback: stack_progress.CallbackModule, host: Host, root: Path) -> None:
    result = make_result(host, make_task("tensorflow_stack_info"), plan=make_plan(root), kept=NOTHING_KEPT)
    callback.v2_runner_on_ok(result)


def write_log(root: Path, text: str, name: str = "tensorflow-2.8.0") -> Path:
    log = root / ".builds" / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text(text)
    return log


def said(capfd: pytest.CaptureFixture[str], *, lines: int = 1) -> list[str]:
    """Waits for that many lines on stderr."""
    text = ""
    deadline = time.monotonic() + 5
    while text.count("\n") < lines and time.monotonic() < deadline:
        time.sleep(0.02)
        text += capfd.readouterr().err
    return text.splitlines()


def test_long_task_is_said_again_and_again(
    callback: stack_progress.CallbackModule, capfd: pytest.CaptureFixture[str]
) -> None:
    callback.v2_runner_on_start(make_host("node7"), make_task())
    lines = said(capfd, lines=2)
    assert lines[:2] == ["[node7, 0 s] Build it"] * 2


@pytest.mark.parametrize("end", ["ok", "failed", "skipped", "unreachable"])
def test_ended_task_is_silent(
    callback: stack_progress.CallbackModule, capfd: pytest.CaptureFixture[str], end: str
) -> None:
    host, task = make_host(), make_task()
    callback.v2_runner_on_start(host, task)
    done = {"action": "keep", "environment": "e", "build": "b", "additions": [], "dropped": [], "kept_builds": []}
    done |= {"removed_builds": [], "passed_over": []}
    getattr(callback, f"v2_runner_on_{end}")(make_result(host, task, **done))
    time.sleep(3 * INTERVAL)
    assert capfd.readouterr().err == ""


def test_local_host_says_the_phase_of_its_build(
    callback: stack_progress.CallbackModule, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    host = make_host(ansible_connection="local")
    announce_plan(callback, host, tmp_path)
    write_log(tmp_path, "== Fetching 45 packages\n\x1b[36mDownloading\x1b[39m tensorflow (474.9MiB)\n\n")
    callback.v2_runner_on_start(host, make_task())
    assert said(capfd)[0] == "[tensorflow-2.8.0 on localhost, 0 s] Fetching 45 packages"


def test_local_host_says_how_much_was_received(
    callback: stack_progress.CallbackModule,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = make_host(ansible_connection="local")
    announce_plan(callback, host, tmp_path)
    write_log(tmp_path, "== Fetching 45 packages\n")
    monkeypatch.setattr(callback._received, "count", lambda: 212_400_000)
    callback.v2_runner_on_start(host, make_task())
    assert said(capfd)[0] == "[tensorflow-2.8.0 on localhost, 0 s] Fetching 45 packages, 212 of 506 MB (41 %)"
    write_log(tmp_path, "== Fetching 45 packages\nPrepared 45 packages in 12.05s\n")
    time.sleep(3 * INTERVAL)
    assert said(capfd)[-1].endswith(" s] Installing 45 packages")
    write_log(tmp_path, "== Fetching 45 packages\nPrepared 45 packages in 12.05s\n== Compiling 9 files to bytecode\n")
    time.sleep(3 * INTERVAL)
    assert said(capfd)[-1].endswith(" s] Compiling 9 files to bytecode")


def test_a_task_without_a_log_says_what_it_received(
    callback: stack_progress.CallbackModule, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callback._received, "count", lambda: 1_312_400_000)
    callback.v2_runner_on_start(make_host(ansible_connection="local"), make_task("nvidia_packages"))
    assert said(capfd)[0] == "[localhost, 0 s] Build it, 1,312 MB received"


def test_what_several_local_hosts_receive_is_nobodys(
    callback: stack_progress.CallbackModule, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callback._received, "count", lambda: 1_312_400_000)
    for name in ("one", "two"):
        callback.v2_runner_on_start(make_host(name, ansible_connection="local"), make_task("nvidia_packages"))
    assert all("received" not in line for line in said(capfd, lines=2))


def test_local_host_says_that_an_interpreter_is_fetched(
    callback: stack_progress.CallbackModule, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    host = make_host(ansible_connection="local")
    announce_plan(callback, host, tmp_path)
    write_log(tmp_path, "== Fetching Python 3.10\n", name="python")
    callback.v2_runner_on_start(host, make_task("tensorflow_interpreter"))
    assert said(capfd)[0] == "[tensorflow-2.8.0 on localhost, 0 s] Fetching Python 3.10"


def test_the_check_after_a_build_does_not_say_its_log(
    callback: stack_progress.CallbackModule, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    host = make_host(ansible_connection="local")
    announce_plan(callback, host, tmp_path)
    write_log(tmp_path, "== Switching to the new build\n")
    callback.v2_runner_on_start(host, make_task("tensorflow_gpu_check"))
    assert said(capfd)[0] == "[tensorflow-2.8.0 on localhost, 0 s] Build it"


def test_a_line_fits_its_screen(
    callback: stack_progress.CallbackModule, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    callback.v2_runner_on_start(make_host("a-node-with-a-long-name.example.org"), make_task())
    assert said(capfd, lines=2)[:2] == ["[a-node-with-a-long-name.example.org, 0", "  s] Build it"]


def test_remote_host_does_not_say_this_machines_log(
    callback: stack_progress.CallbackModule, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    host = make_host("node7")
    announce_plan(callback, host, tmp_path)
    write_log(tmp_path, "Downloading tensorflow\n")
    callback.v2_runner_on_start(host, make_task())
    assert said(capfd)[0] == "[tensorflow-2.8.0 on node7, 0 s] Build it"


def test_refused_plan_has_no_environment(callback: stack_progress.CallbackModule) -> None:
    plan = {"release": "2.8.0", "environment": None, "steps": [], "refusals": [{}], "warnings": []}
    callback.v2_runner_on_ok(make_result(make_host(), make_task("tensorflow_stack_info"), plan=plan, kept=NOTHING_KEPT))
    assert callback._environments == {}
    assert stack_progress.plan_line(plan) == "TensorFlow 2.8.0 is refused"


def test_plan_in_one_line(tmp_path: Path) -> None:
    where = f"TensorFlow 2.8.0 (cpu) at {tmp_path}/tensorflow-2.8.0"
    line = stack_progress.plan_line(make_plan(tmp_path))
    assert line == f"{where}: lock install, environment install (506 MB to fetch)"
    assert (
        stack_progress.plan_line(make_plan(tmp_path, changes=False))
        == f"{where}: nothing to change, if its files are unchanged"
    )
    assert stack_progress.plan_line(make_plan(tmp_path, changes=False), is_whole=True) == f"{where}: nothing to change"


def test_warnings_of_a_plan_are_said(
    callback: stack_progress.CallbackModule, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan = {**make_plan(tmp_path), "warnings": ["Only root can use this environment."]}
    callback.v2_runner_on_ok(make_result(make_host(), make_task("tensorflow_stack_info"), plan=plan, kept=NOTHING_KEPT))
    assert "localhost: warning: Only root can use this environment." in capfd.readouterr().out


@pytest.mark.parametrize(("reused", "again"), [(False, ""), (True, ", from an earlier check of this build")])
def test_verdict_is_said(
    callback: stack_progress.CallbackModule, capfd: pytest.CaptureFixture[str], reused: bool, again: str
) -> None:
    result = make_result(
        make_host(), make_task("tensorflow_gpu_check"), verdict="ok", reason="It computed.", reused=reused
    )
    callback.v2_runner_on_ok(result)
    assert f"localhost: ok{again}: It computed." in capfd.readouterr().out


KEPT: dict[str, Any] = {
    "environment": {
        "action": "keep",
        "environment": "/opt/tensorflow/tensorflow-2.8.0",
        "build": "tensorflow-2.8.0-0123456789ab-1",
        "additions": ["pandas 2.3.3"],
        "dropped": [],
        "kept_builds": [],
        "removed_builds": [],
        "passed_over": [],
    },
    "check": {"verdict": "ok", "reason": "It computed.", "reused": True},
}


def test_what_need_not_run_is_said_with_the_report(
    callback: stack_progress.CallbackModule, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan = make_plan(tmp_path, changes=False)
    callback.v2_runner_on_ok(make_result(make_host(), make_task("tensorflow_stack_info"), plan=plan, kept=KEPT))
    assert "nothing to change\n" in capfd.readouterr().out
    callback.v2_runner_on_ok(make_result(make_host(), make_task("tensorflow_report"), report={}, use=[]))
    said = capfd.readouterr().out
    assert "localhost: ok, from an earlier check of this build: It computed." in said
    assert "pandas 2.3.3" in said


def test_what_ran_is_not_said_twice(
    callback: stack_progress.CallbackModule, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan = make_plan(tmp_path, changes=False)
    callback.v2_runner_on_ok(make_result(make_host(), make_task("tensorflow_stack_info"), plan=plan, kept=KEPT))
    check = {"verdict": "ok", "reason": "It computed.", "reused": False}
    callback.v2_runner_on_ok(make_result(make_host(), make_task("tensorflow_gpu_check"), **check))
    callback.v2_runner_on_ok(make_result(make_host(), make_task("tensorflow_report"), report={}, use=[]))
    assert capfd.readouterr().out.count("It computed.") == 1


def test_what_is_ready_is_the_last_that_is_said(
    callback: stack_progress.CallbackModule, capfd: pytest.CaptureFixture[str]
) -> None:
    use = ["ready: TensorFlow 2.8.0", "to use it: source activate", "to go back: make rollback"]
    callback.v2_runner_on_ok(make_result(make_host(), make_task("tensorflow_report"), report={}, use=use))
    assert capfd.readouterr().out == ""
    callback.v2_playbook_on_stats(SimpleNamespace(processed={"localhost": 1}))
    assert capfd.readouterr().out == "".join(f"localhost: {line}\n" for line in use)


@pytest.mark.parametrize(
    ("host_variable", "group_variable", "play", "expected"),
    [
        pytest.param("local", None, "ssh", True, id="host"),
        pytest.param(None, "local", "ssh", True, id="group"),
        pytest.param(None, None, "local", True, id="play"),
        pytest.param("ssh", "local", "local", False, id="host wins"),
        pytest.param(None, None, "ssh", False, id="none"),
    ],
)
def test_local_is_what_inventory_or_play_say(
    host_variable: str | None, group_variable: str | None, play: str, expected: bool
) -> None:
    host = make_host("node7", **({"ansible_connection": host_variable} if host_variable else {}))
    group = Group("here")
    if group_variable:
        group.set_variable("ansible_connection", group_variable)
    group.add_host(host)
    assert stack_progress._is_local(host, make_task(connection=play)) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("2026-11-26: E external/cuda_blas.cc:1515] Unable to register\n", None),
        ("== one\nnoise == two\n", "one"),
        ("== one\nnoise\n== two\nnoise\n", "two"),
        ("== one\n" + "x" * 9000, "one"),
        ("== one\nPrepared 1 package in 3ms\n", "Installing 1 packages"),
        ("== one\nPrepared 1 package in 3ms\n== two\n", "two"),
    ],
)
def test_last_phase(tmp_path: Path, text: str, expected: str | None) -> None:
    log = write_log(tmp_path, text)
    assert stack_progress.last_phase(str(log), since=time.time()) == expected


def test_compiled_files_are_counted(tmp_path: Path) -> None:
    build = tmp_path / ".builds" / "tensorflow-2.8.0-0123456789ab-1" / "lib"
    build.mkdir(parents=True)
    for name in ("a.py", "b.py", "a.cpython-310.pyc"):
        (build / name).touch()
    log = write_log(tmp_path, f"== Building {build.parent.name}\n== Compiling 1,200 files to bytecode\n")
    phase = stack_progress.last_phase(str(log), since=time.time(), root=str(tmp_path))
    assert phase == "Compiling to bytecode, 1 of 1,200 files (0 %)"


def test_log_of_an_earlier_run_is_not_said(tmp_path: Path) -> None:
    log = write_log(tmp_path, "== Fetching\n")
    os.utime(log, (time.time() - 60, time.time() - 60))
    assert stack_progress.last_phase(str(log), since=time.time()) is None


def test_missing_log_is_fine(tmp_path: Path) -> None:
    assert stack_progress.last_phase(str(tmp_path / "none.log"), since=0) is None


def make_play(message: str) -> Any:
    task = SimpleNamespace(args={"msg": message}, tags=[])
    block = SimpleNamespace(block=[task], rescue=[], always=[])
    return SimpleNamespace(get_tasks=lambda: [[SimpleNamespace(args={})], [block]])


@pytest.mark.parametrize("is_shown", [True, False])
def test_a_plan_is_said_once(
    callback: stack_progress.CallbackModule, capfd: pytest.CaptureFixture[str], tmp_path: Path, is_shown: bool
) -> None:
    callback.v2_playbook_on_play_start(make_play("{{ tensorflow_release_result.table }}" if is_shown else "hello"))
    announce_plan(callback, make_host(), tmp_path)
    assert ("TensorFlow 2.8.0" in capfd.readouterr().out) is not is_shown


def test_beside_json_on_stdout_all_is_on_stderr(
    callback: stack_progress.CallbackModule,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stack_progress.constants, "DEFAULT_STDOUT_CALLBACK", "ansible.posix.json")
    announce_plan(callback, make_host(), tmp_path)
    written = capfd.readouterr()
    assert written.out == "" and "TensorFlow 2.8.0" in written.err


def test_what_is_beside_the_lock_is_said() -> None:
    kept: dict[str, Any] = {
        "action": "keep",
        "environment": "/opt/tensorflow/tensorflow-2.8.0",
        "build": "tensorflow-2.8.0-0123456789ab-2",
        "additions": [f"p{n} 1" for n in range(10)],
        "dropped": [],
        "kept_builds": [],
        "removed_builds": [],
        "passed_over": [],
    }
    (line,) = stack_progress.environment_lines(kept)
    assert line.startswith("/opt/tensorflow/tensorflow-2.8.0 has additions to its lock: p0 1, p1 1,")
    assert line.endswith("p7 1 and 2 more")
    rolled_back = {**kept, "action": "rollback", "additions": ["p 1"], "dropped": ["q 2"]}
    rolled_back["passed_over"] = ["b-3 (gone)"]
    assert stack_progress.environment_lines(rolled_back) == [
        "tensorflow-2.8.0-0123456789ab-2 has additions to its lock: p 1",
        "additions that stay in the build from which this rollback leads away: q 2",
        "not usable, and passed over: b-3 (gone)",
    ]
    built = {**kept, "action": "build", "additions": [], "dropped": ["q 2"], "kept_builds": ["b-1"]}
    assert stack_progress.environment_lines({**built, "removed_builds": ["b-0"]}) == [
        "/opt/tensorflow/tensorflow-2.8.0 had additions to its lock: q 2",
        "removed beyond tensorflow_keep, so that no rollback leads there: b-0",
        "kept beyond tensorflow_keep because of additions: b-1",
    ]
    removed = {**built, "action": "remove", "dropped": [], "kept_builds": [], "removed_builds": ["b-0"]}
    assert stack_progress.environment_lines(removed) == []
    assert stack_progress.environment_lines({**kept, "additions": []}) == []


def test_plan_that_reported_shows_what_is_kept(
    callback: stack_progress.CallbackModule, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    check = {"reused": True, "verdict": "ok", "reason": "It computed."}
    planned = {"plan": make_plan(tmp_path, changes=False), "kept": {"environment": None, "check": check}, "report": {}}
    result = {"plans": [{**planned, "use": ["ready: it is"]}]}
    callback.v2_runner_on_ok(make_result(make_host("n1"), make_task("tensorflow_stack_info"), **result))
    callback.v2_playbook_on_stats(SimpleNamespace(processed={"n1": 1}))
    shown = capfd.readouterr().out
    assert "n1: ok, from an earlier check of this build: It computed.\n" in shown
    assert shown.endswith("n1: ready: it is\n")
