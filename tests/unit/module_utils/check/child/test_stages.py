"""Stages that really end their process, hang, or raise."""

from __future__ import annotations

import faulthandler
import io
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.check.child.stages import Record, Stage, Stages


def pid() -> Record:
    return {"pid": os.getpid()}


def hang() -> Record:
    time.sleep(60)
    return {}


def end(number: int) -> Callable[[], Record]:
    def action() -> Record:
        os.write(2, b"last words\n")
        faulthandler.disable()  # pytest's would print where this process ended, which is meant to
        os.kill(os.getpid(), number)
        return hang()

    return action


@pytest.fixture
def run(tmp_path: Any) -> Iterator[Callable[..., list[Record]]]:
    """Standard error is a file, as in the check."""
    kept = os.dup(2)
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    os.dup2(log, 2)
    os.close(log)

    def stages(*stages: Stage, seconds: float = 20, **options: Any) -> list[Record]:
        written = io.StringIO()
        last = Stages(written, time.monotonic() + seconds).run(list(stages), **options)
        lines = [json.loads(line) for line in written.getvalue().splitlines()]
        assert [line["finished"] for line in lines] == [False, True] * len(last)
        assert lines[1::2] == last
        return last

    yield stages
    os.dup2(kept, 2)
    os.close(kept)


def test_a_group_shares_one_process_that_is_not_this_one(run: Callable[..., list[Record]]) -> None:
    first, second = run(Stage("a", None, pid), Stage("b", "gpu", pid))
    assert first["pid"] == second["pid"] != os.getpid()
    assert (second["stage"], second["device"], second["error"]) == ("b", "gpu", None)


def test_a_stage_that_raises_is_followed_in_the_same_process(run: Callable[..., list[Record]]) -> None:
    first, second, third = run(Stage("a", None, pid), Stage("b", None, lambda: {"x": 1 // 0}), Stage("c", None, pid))
    assert second["error"] == "ZeroDivisionError: integer division or modulo by zero"
    assert first["pid"] == third["pid"]


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS])
def test_a_stage_that_ends_its_process_is_named(run: Callable[..., list[Record]], number: int) -> None:
    first, second, third = run(Stage("a", "gpu", pid), Stage("b", "gpu", end(number)), Stage("c", "gpu", pid))
    assert (second["signal"], second["last_words"]) == (number, "last words")
    assert first["pid"] != third["pid"]


def test_a_stage_that_exits_is_named(run: Callable[..., list[Record]]) -> None:
    def leave() -> Record:
        os._exit(7)

    first, second = run(Stage("a", None, leave), Stage("b", None, pid))
    assert first["exit_status"] == 7
    assert second["error"] is None


def test_a_stage_that_hangs_leaves_time_for_others(run: Callable[..., list[Record]]) -> None:
    start = time.monotonic()
    rows = run(Stage("a", "gpu", hang), Stage("b", "gpu", pid), Stage("c", "other", pid), seconds=2)
    assert time.monotonic() - start < 2
    assert [row["stage"] for row in rows] == ["a", "c"]  # nothing more on a device that hangs
    assert 0.9 < rows[0]["time_limit"] < 1.5
    assert rows[1]["error"] is None


def test_kernels_that_are_compiled_may_take_all_the_time(run: Callable[..., list[Record]]) -> None:
    def compile_kernels() -> Record:
        os.write(2, b"CUDA kernels will be jit-compiled from PTX, which could take 30 minutes or longer.\n")
        time.sleep(1.5)
        return {}

    (row,) = run(Stage("a", "gpu", compile_kernels), seconds=2.5)
    assert row["error"] is None


def test_a_finished_stage_may_lead_to_others(run: Callable[..., list[Record]]) -> None:
    def expand(record: Record) -> list[Stage]:
        return [Stage("b", name, pid) for name in record.get("found", [])]

    rows = run(Stage("a", None, lambda: {"found": ["x", "y"]}), Stage("c", None, end(9)), expand=expand)
    assert [(row["stage"], row["device"]) for row in rows] == [("a", None), ("c", None), ("b", "x"), ("b", "y")]
    assert rows[2]["pid"] == rows[3]["pid"]


def test_a_long_record_comes_through(run: Callable[..., list[Record]]) -> None:
    (row,) = run(Stage("a", None, lambda: {"text": "x" * 1_000_000}))
    assert len(row["text"]) == 1_000_000


def test_no_process_is_left(run: Callable[..., list[Record]]) -> None:
    run(Stage("a", None, hang), Stage("b", None, end(9)), seconds=0.5)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
