from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError, TimedOutError
from ansible.module_utils.tensorflow_stack.io import commands
from ansible.module_utils.tensorflow_stack.io.commands import Completed, c_locale, run, run_into

BOTH = "echo out; echo err >&2; exit 3"


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_both_channels_in_their_order_or_apart() -> None:
    assert run(["sh", "-c", BOTH]) == Completed(3, "out\nerr\n")
    assert run(["sh", "-c", BOTH]).lines == ["out", "err"]
    assert run(["sh", "-c", BOTH], apart=True) == Completed(3, "out\n", "err\n")


def test_what_is_not_utf_8_is_replaced() -> None:
    assert run(["printf", r"a\377b"]).output == "a�b"


def test_a_signal_is_a_negative_code() -> None:
    assert run(["sh", "-c", "kill -TERM $$"]).code == -signal.SIGTERM


def test_stdin_is_the_text_or_empty() -> None:
    assert run(["cat"], stdin="ä\n").output == "ä\n"
    assert run(["cat"]) == Completed(0, "")


def test_messages_are_in_english_unless_an_environment_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    show = ["sh", "-c", "echo $LC_ALL $LANGUAGE $MORE"]
    assert run(show).output == "C C\n"
    assert run(show, env=c_locale(MORE="more")).output == "C C more\n"
    assert run(show, env={"MORE": "alone"}).output == "alone\n"


@pytest.mark.parametrize("path", ["absent", "not-executable"])
def test_a_program_that_cannot_be_started(tmp_path: Path, path: str) -> None:
    (tmp_path / "not-executable").write_text("")
    program = str(tmp_path / path)
    for start in (
        lambda: run([program, "-v"]),
        lambda: run_into([program, "-v"], sys.stdout.buffer, sys.stderr.buffer),
    ):
        with pytest.raises(StackError) as caught:
            start()
        reason = "No such file or directory" if path == "absent" else "Permission denied"
        assert caught.value.message == (f"{program} cannot be started: {reason}. Install its package.")
        assert caught.value.details == {"cmd": [program, "-v"]}
        assert isinstance(caught.value, OSError)


def test_a_program_on_a_file_system_without_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program"
    program.write_text("")
    monkeypatch.setattr(commands, "is_noexec", lambda path: path == str(program))
    with pytest.raises(StackError, match="Its file system is mounted noexec: mount it with exec, or use a directory"):
        run([str(program)])


def test_at_the_time_limit_the_whole_group_is_killed_and_its_words_are_kept() -> None:
    done = run(["sh", "-c", "sleep 600 & echo $!; wait"], timeout=0.3)
    assert done.code is None
    wait_until(lambda: not is_running(int(done.output)))


def test_the_same_into_files() -> None:
    with TemporaryFile() as stdout, TemporaryFile() as stderr:
        assert run_into(["sh", "-c", "sleep 600 & echo $!; wait"], stdout, stderr, timeout=0.3) is None
        stdout.seek(0)
        pid = int(stdout.read())
        wait_until(lambda: not is_running(pid))
        assert run_into(["sh", "-c", BOTH], stdout, stderr) == 3
        stderr.seek(0)
        assert stderr.read() == b"err\n"


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_what_cannot_be_killed_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process that hangs in a broken driver."""
    monkeypatch.setattr(commands, "_REAP_SECONDS", 0.1)
    killed: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "killpg", lambda group, _: killed.append(group))
        with TemporaryFile() as stream:
            assert run_into(["sleep", "600"], stream, stream, timeout=0.1) is None
        assert run(["sh", "-c", "echo said; exec sleep 600"], timeout=0.3) == Completed(None, "said\n")
    for group in killed:
        os.killpg(group, signal.SIGKILL)
        os.waitpid(group, 0)


def test_a_program_that_writes_to_files_dies_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from tensorflow_stack.io.commands import run_into;"
        "run_into(['sh', '-c', 'echo $$; exec sleep 600'], open(sys.argv[2], 'wb'), sys.stderr.buffer)"
    )
    utils = Path(commands.__file__).parents[2]
    parent = os.posix_spawn(
        sys.executable, [sys.executable, "-c", program, str(utils), str(tmp_path / "out")], os.environ
    )
    out = tmp_path / "out"
    wait_until(lambda: out.exists() and out.read_text().endswith("\n"))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    wait_until(lambda: not is_running(int(out.read_text())))


def test_without_a_time_of_the_caller_the_module_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_limit", commands.Limit(0.3, "package_time_limit"))
    with pytest.raises(TimedOutError) as caught:
        run(["sh", "-c", "echo Unpacking x; sleep 600 & wait"])
    assert caught.value.message == (
        "sh -c echo Unpacking x; sleep 600 & wait did not end within 0.3 s and was stopped. It last printed: Unpacking "
        "x. Find out what it waits for, or raise package_time_limit, and run again."
    )
    with TemporaryFile() as stream, pytest.raises(TimedOutError, match=r"sleep 600 did not end within 0\.3 s"):
        run_into(["sleep", "600"], stream, stream)
