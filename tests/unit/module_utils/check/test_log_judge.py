from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.check.log_judge import judge_log
from ansible.module_utils.tensorflow_stack.tables.load import load_tables

TESTS = Path(__file__).resolve().parents[3]
ROWS = [row._asdict() for row in load_tables(str(TESTS.parent / "roles/tensorflow_release/files/tables")).log_lines]
VERDICT = "localhost: ok: TensorFlow 2.18.0 computed the right numbers on /device:GPU:0"
DEVICE = "I0000 00:00:1 1 gpu_device.cc:2043] Created device /job:localhost/replica:0/task:0/device:GPU:0 with 15078 MB"
CUDNN = "I0000 00:00:1 1 cuda_dnn.cc:529] Loaded cuDNN version 90300"
FACTORY = (
    "E0000 00:00:1 1 cuda_dnn.cc:8310] Unable to register cuDNN factory: Attempting to register factory for plugin"
)
EPOCH = "10/10 ━━━━━━━━━━━━━━━━━━━━ 3s 12ms/step - loss: 0.69"


@pytest.mark.parametrize(
    ("lines", "healthy"),
    [
        ([VERDICT], True),
        (["PLAY RECAP ***", VERDICT, "localhost   : ok=5 changed=1 unreachable=0 failed=0 skipped=1"], True),
        ([VERDICT, "fatal: [other]: FAILED! => {}"], False),
        ([DEVICE, CUDNN, "done"], True),
        ([DEVICE, EPOCH, "done"], True),
        ([DEVICE, FACTORY], True),
        ([DEVICE, "something else"], False),
        ([CUDNN, "done"], False),
        ([DEVICE, CUDNN, "Aborted (core dumped)"], False),
        ([FACTORY], True),
        (["# python fail.py", FACTORY], True),
        (["# python fail.py"], False),
        ([f"trainer-1  | {FACTORY}"], True),
        ([FACTORY, "Num GPUs Available:  0"], False),
        (["I0000 00:00:1 1 a.cc:1] nothing in particular"], False),
        (["all is well"], False),
        (["Hit:1 http://deb.debian.org bookworm InRelease", "Reading package lists..."], False),
    ],
)
def test_what_is_healthy(lines: list[str], healthy: bool) -> None:
    judgement = judge_log(ROWS, lines)
    assert judgement.healthy is healthy
    assert bool(judgement.quoted) is not healthy


def test_the_message_of_a_traceback_is_quoted() -> None:
    lines = [
        "Traceback (most recent call last):",
        '  File "train.py", line 3, in <module>',
        "    raise Unusual()",
        "own.Unusual: nobody knows",
        "",
    ]
    assert judge_log(ROWS, lines).quoted == ["own.Unusual: nobody knows"]
    assert judge_log(ROWS, lines[:3]).quoted == [line.strip() for line in lines[:3]]


def test_first_and_last_of_many_faults_are_quoted() -> None:
    judgement = judge_log(ROWS, [f"error {n} of a program" for n in "abcdefgh"] * 2)
    assert [line[6] for line in judgement.quoted] == ["a", "b", "f", "g", "h"]
    assert judgement.faults == 8


@pytest.mark.parametrize("capture", sorted((TESTS / "data/captures/healthy").glob("*.txt")), ids=lambda path: path.stem)
def test_nothing_of_a_capture_of_tensorflow_looks_like_a_fault(capture: Path) -> None:
    said = capture.read_text(encoding="utf-8").partition("\n")[2].splitlines()
    faulty = ("another-module-rejected", "fabricmanager-without-nvswitch")  # of others, which did fail
    assert bool(judge_log(ROWS, said).faults) is (capture.stem in faulty)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['kind']}-{row['by']}")
def test_no_line_takes_long(row: Mapping[str, Any]) -> None:
    words = re.findall(r"[\w' .:-]{3,}", re.sub(r"\\.", " ", row["line"]))
    hard = ["a" * 2000, " " * 2000, "error." * 330] + [word * (2000 // len(word)) for word in words]
    start = time.process_time()
    for line in hard:
        re.search(row["line"], line)
    assert time.process_time() - start < 0.5
