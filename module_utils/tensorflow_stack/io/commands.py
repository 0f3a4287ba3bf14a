"""Start other programs: the only place that does, apart from the check's own child."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import subprocess
from typing import IO, Any, Mapping, NamedTuple, Sequence

from ..errors import NotStartedError, TimedOutError
from .space import is_noexec

# After SIGKILL. What hangs in a broken driver cannot be reaped, and its caller has to go on.
_REAP_SECONDS = 10.0


class Limit(NamedTuple):
    """How long a program may run for which its caller names no time, and what sets that."""

    seconds: float
    setting: str


_limit = Limit(7200.0, "")


def limit_programs(seconds: float, setting: str) -> None:
    """For all of this process: what a module's own option says. The messages name `setting`."""
    global _limit  # one process is one run
    _limit = Limit(seconds, setting)


class Completed(NamedTuple):
    """`code` is null if the time was up, and negative for a signal."""

    code: int | None
    output: str
    errors: str = ""  # empty unless the two were asked for apart

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()


def c_locale(**more: str) -> dict[str, str]:
    """This process's environment with messages that can be parsed, and with what is given."""
    return {**os.environ, "LC_ALL": "C", "LANGUAGE": "C", **more}


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    timeout: float | None = None,
    cwd: str | None = None,
    apart: bool = False,
) -> Completed:
    """Run a program and return what it wrote; `env` is its whole environment, by default `c_locale()`.

    Its output has both channels in the order of writing; with `apart`, errors have their own. It runs in a process
    group of its own, which is killed when the time is up: after `timeout` seconds with null as its code, and without a
    timeout after those of `limit_programs` by TimedOutError. Raises NotStartedError.
    """
    seconds = _limit.seconds if timeout is None else timeout
    process = _start(
        argv,
        env=env,
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if apart else subprocess.STDOUT,
        cwd=cwd,
        start_new_session=True,
    )
    text = stdin.encode("utf-8") if stdin else None
    code: int | None = None
    try:
        output, errors = process.communicate(text, timeout=seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        _kill_group(process)
        output, errors = _rest(process)
        if timeout is None:
            raise TimedOutError(argv, seconds, _limit.setting, _text(output)) from None
    except BaseException:
        _kill_group(process)
        raise
    return Completed(code, _text(output), _text(errors))


def run_into(
    argv: Sequence[str],
    stdout: IO[bytes],
    stderr: IO[bytes],
    *,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    cwd: str | None = None,
) -> int | None:
    """Run a program that writes to files, and return its exit status, null if the time was up.

    Without a timeout it has the seconds of `limit_programs`, after which TimedOutError is raised.

    It runs in a process group of its own, which is killed when the time is up or this process is interrupted. The
    program dies with this process and inherits its locks: a killed run never leaves a writer behind that the next run
    does not wait for. Raises NotStartedError.
    """
    process = _start(
        argv,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        start_new_session=True,
        close_fds=False,
        preexec_fn=_die_with_parent,
    )
    seconds = _limit.seconds if timeout is None else timeout
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        if timeout is None:
            raise TimedOutError(argv, seconds, _limit.setting) from None
        return None
    finally:
        if process.returncode is None:
            _kill_group(process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_REAP_SECONDS)


def _start(argv: Sequence[str], *, env: Mapping[str, str] | None, **how: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(list(argv), env=c_locale() if env is None else env, **how)
    except OSError as error:
        if error.errno == errno.EACCES and is_noexec(argv[0]):
            advice = "Its file system is mounted noexec: mount it with exec, or use a directory of another one."
            raise NotStartedError(argv, str(error.strerror), advice) from error
        raise NotStartedError(argv, str(error.strerror)) from error


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _rest(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """What a killed program had written."""
    try:
        return process.communicate(timeout=_REAP_SECONDS)
    except subprocess.TimeoutExpired as error:
        for stream in filter(None, (process.stdin, process.stdout, process.stderr)):
            stream.close()
        return error.output or b"", error.stderr or b""


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
