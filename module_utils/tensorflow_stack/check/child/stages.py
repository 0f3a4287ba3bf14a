"""Run the stages of a check, each where it can hang or end its process without ending the check.

Part of what runs in the environment's own Python (3.6 and newer), as `main.py`: standard library only, no
`from __future__ import annotations`.

A group of stages runs in one forked process, so that what is costly (a GPU's context) is made once. A stage that ends
this process or takes too long is recorded as just that, and the group goes on behind it in another process.

Every stage writes two JSON lines, one when it begins and one when it ends: also an end of the whole check shows how far
it came.
"""

import json
import os
import re
import select
import signal
import time
import traceback
import warnings
from typing import IO, Any, Callable, Dict, List, NamedTuple, Optional

Record = Dict[str, Any]


class Stage(NamedTuple):
    name: str
    device: Optional[str]
    action: Callable[[], Record]


# What further stages of its group a finished one leads to.
Expand = Callable[[Record], List[Stage]]

# TensorFlow says so when a GPU is newer than its machine code: then a stage may take all the time that is left.
_COMPILES_KERNELS = re.compile(rb"[Kk]ernels will be jit-compiled from PTX")
# After SIGKILL; a process that hangs in a broken driver cannot be reaped.
_REAP_SECONDS = 5.0
_LOG_BYTES = 16 * 1024


class Stages:
    """Runs stages until `deadline` (monotonic) and writes their records."""

    def __init__(self, records: IO[str], deadline: float) -> None:
        self._records = records
        self._deadline = deadline

    def run_here(self, stage: Stage) -> Record:
        """For a stage that the later ones stand on: its end is the end of the check."""
        self._write(_begun(stage))
        record = _observe(stage)
        self._write(record)
        return record

    def run(self, stages: List[Stage], expand: Expand = lambda record: []) -> List[Record]:
        """The last record of each stage."""
        done = []  # type: List[Record]
        waiting = list(stages)
        while waiting:
            group = _Group(waiting, expand, self._deadline)
            while waiting:
                self._write(_begun(waiting[0]))
                record = group.next_record(waiting[0], self._deadline)
                self._write(record)
                done.append(record)
                stage = waiting.pop(0)
                waiting += expand(record)
                if record.get("signal") or record.get("exit_status") is not None:
                    break
                if record.get("time_limit") is not None:
                    # What hangs once hangs again: no more time for what this device has left.
                    waiting = [later for later in waiting if stage.device is None or later.device != stage.device]
                    break
            group.end()
        return done

    def _write(self, record: Record) -> None:
        self._records.write(json.dumps(record) + "\n")
        self._records.flush()


class _Group:
    """A forked process that runs stages one after the other and sends their records."""

    def __init__(self, stages: List[Stage], expand: Expand, deadline: float) -> None:
        self._log_start = _log_size()
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            # Of Python 3.12 on: the threads of a library may hold locks. TensorFlow starts its own with its devices,
            # which none has here yet, and numpy's are made anew by their library.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            os.close(reader)
            # The parent enforces the time limits; one that lost its parent must not hold a GPU for ever.
            signal.alarm(max(int(deadline - time.monotonic()), 0) + 60)
            _send_all(writer, list(stages), expand)
        os.close(writer)
        self._reader = reader
        self._buffer = b""

    def next_record(self, stage: Stage, deadline: float) -> Record:
        start = time.monotonic()
        line = self._line(start, deadline)
        if line:
            record, self._log_start = json.loads(line.decode())
            return dict(record)
        record = dict(_begun(stage), finished=True, error=None, seconds=round(time.monotonic() - start, 3))
        if line is None:
            record["time_limit"] = record["seconds"]
        else:
            _, status = os.waitpid(self._pid, 0)
            self._pid = 0
            if os.WIFSIGNALED(status):
                record["signal"] = os.WTERMSIG(status)
            else:
                record["exit_status"] = os.WEXITSTATUS(status)
        log = _log_from(self._log_start).decode("utf-8", "replace")
        record["last_words"] = next((text for text in reversed(log.splitlines()) if text.strip()), None)
        return record

    def _line(self, start: float, deadline: float) -> Optional[bytes]:
        """The next line that the process sends; empty at its end, null when it took too long."""
        # Half of what is left: a stage that hangs leaves time for those that do not.
        limit = start + (deadline - start) / 2
        while b"\n" not in self._buffer:
            left = limit - time.monotonic()
            if left <= 0:
                if limit < deadline and _COMPILES_KERNELS.search(_log_from(0)):
                    limit = deadline
                    continue
                return None
            if select.select([self._reader], [], [], left)[0]:
                data = os.read(self._reader, 65536)
                if not data:
                    return b""
                self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def end(self) -> None:
        os.close(self._reader)
        if not self._pid:
            return
        os.kill(self._pid, signal.SIGKILL)
        deadline = time.monotonic() + _REAP_SECONDS
        while os.waitpid(self._pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.01)


def _send_all(writer: int, stages: List[Stage], expand: Expand) -> None:
    """Runs in the forked process and never comes back."""
    try:
        while stages:
            record = _observe(stages.pop(0))
            # With where the log of the next stage begins, before that can write to it.
            text = (json.dumps([record, _log_size()]) + "\n").encode()
            while text:
                text = text[os.write(writer, text) :]
            stages += expand(record)
        os._exit(0)  # what a library does at the end of a process is no stage
    finally:
        os._exit(70)


def _begun(stage: Stage) -> Record:
    return {"stage": stage.name, "device": stage.device, "finished": False}


def _observe(stage: Stage) -> Record:
    record = _begun(stage)
    start = time.monotonic()
    try:
        record.update(stage.action(), error=None)
    except Exception as error:  # whatever a library raises is the observation
        traceback.print_exc()
        record["error"] = f"{type(error).__name__}: {error}"
    record.update(finished=True, seconds=round(time.monotonic() - start, 3))
    return record


def _log_size() -> int:
    try:
        return os.fstat(2).st_size
    except OSError:
        return 0


def _log_from(start: int) -> bytes:
    """The end of what standard error has got since; nothing where it is no file."""
    try:
        return os.pread(2, _LOG_BYTES, max(start, _log_size() - _LOG_BYTES))
    except OSError:
        return b""
