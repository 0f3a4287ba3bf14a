"""The same text in other clothes: every cause that is found in a plain log is found in it as tools wrap logs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.check.diagnose import diagnose
from ansible.module_utils.tensorflow_stack.check.log_text import read_log, split_lines
from ansible.module_utils.tensorflow_stack.check.log_unwrap import inner_lines
from ansible.module_utils.tensorflow_stack.tables.load import load_tables

TESTS = Path(__file__).resolve().parents[3]
ROWS = [row._asdict() for row in load_tables(str(TESTS.parent / "roles/tensorflow_release/files/tables")).diagnoses]
# Texts whose patterns look for the start or the end of a line, and some of each tool.
PLAIN = {
    "packages_interrupted": "iF  nvidia-dkms-535  535.183.01-0ubuntu1",
    "out_of_memory": "Killed",
    "fabric_manager": "    State                             : In Progress",
    "packages_do_not_fit": "The following packages have unmet dependencies:\n"
    " nvidia-dkms-510 : Depends: a (>= 2) but 1 is to be installed\n"
    "E: Unmet dependencies. Try 'apt --fix-broken install' with no packages (or specify a solution).",
    "package_gone": "Reading package lists...\nE: Unable to locate package nvidia-driver-580",
    "python_too_new": 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    import imp\n'
    "ModuleNotFoundError: No module named 'imp'",
    "numpy_abi": "ValueError: numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header",
    "cudnn_not_started": "2024-05-01 10:11:12.131415: E tensorflow/stream_executor/cuda/cuda_dnn.cc:389] Could not "
    "create cudnn handle: CUDNN_STATUS_INTERNAL_ERROR",
}


def each(before: str, after: str = "") -> Callable[[str], str]:
    return lambda text: "".join(f"{before}{line}{after}\n" for line in text.splitlines())


def as_json(key: str, **more: str) -> Callable[[str], str]:
    return lambda text: "".join(json.dumps({**more, key: line + "\n"}) + "\n" for line in text.splitlines())


def notebook(indent: int | None, kind: str) -> Callable[[str], str]:
    def wrapped(text: str) -> str:
        lines = text.splitlines()
        outputs = {
            "stream": {"output_type": "stream", "name": "stderr", "text": [line + "\n" for line in lines]},
            "error": {
                "output_type": "error",
                "ename": "E",
                "evalue": lines[-1],
                "traceback": ["\x1b[0;31m---", *lines],
            },
        }
        cell = {"cell_type": "code", "source": ["import tensorflow as tf\n"], "outputs": [outputs[kind]]}
        return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4}, indent=indent)

    return wrapped


WRAPPINGS: dict[str, Callable[[str], str]] = {
    "docker compose": each("trainer-1  | "),
    "kubectl": each("[pod/trainer-0/main] "),
    "kubectl with times": each("[pod/trainer-0/main] 2026-11-22T14:43:50.123456789Z "),
    "docker logs -t": each("2026-11-22T14:43:50.123456789Z "),
    "containerd": each("2026-11-22T14:43:50.1Z stderr F "),
    "journald": each("Nov 22 14:43:50 gpu01 train.sh[123]: "),
    "journald with precise times": each("Nov 22 14:43:50.123456 gpu01 train.sh[123]: "),
    "journald as JSON": as_json("MESSAGE", _HOSTNAME="gpu01", PRIORITY="3"),
    "syslog": each("<11>1 2026-11-22T14:43:50.003Z gpu01 train 123 ID47 - "),
    "docker as JSON": as_json("log", stream="stderr", time="2026-11-22T14:43:50Z"),
    "structured logging": as_json("message", level="error"),
    "srun --label": each("0: "),
    "srun --label of many": each("127: "),
    "torchrun": each("[rank3]: "),
    "mpirun": each("[1,0]<stderr>:"),
    "Ray": each("(TrainWorker pid=1234, ip=10.0.0.2) "),
    "pdsh": each("gpu01: "),
    "GitHub Actions": each("2026-11-22T14:43:50.1234567Z ##[error]"),
    "GitLab": each("2026-11-22T14:43:50.123456Z 01O "),
    "Airflow": each("[2026-11-22, 14:43:50 UTC] {subprocess.py:93} INFO - "),
    "logging of Python": each("ERROR:root:"),
    "logging of Python with times": each("2026-11-22 14:43:50,123 - train - ERROR - "),
    "loguru": each("2026-11-22 14:43:50.123 | ERROR    | train:main:12 - "),
    "docker build": each("#12 3.456 "),
    "Jenkins": each("[2026-11-22T14:43:50.123Z] "),
    "a quotation": each("> "),
    "a quoted quotation": each("> > "),
    "a frame of rich": each("│ "),
    "bars of tqdm": lambda text: f" 10%|█         | 1/10 [00:01<00:09]\r 20%|██        | 2/10\r{text}\r\n",
    "colours": each("\x1b[1;31m", "\x1b[0m"),
    "CRLF": lambda text: text.replace("\n", "\r\n") + "\r\n",
    "cat -v": each("^[[31m", "^[[0m"),
    "Ansible": lambda text: f"fatal: [gpu01]: FAILED! => {json.dumps({'changed': False, 'rc': 1, 'stderr': text})}\n",
    "Ansible, msg alone": lambda text: f"failed: [gpu01] (item=a) => {json.dumps({'msg': text})}\n",
    "a text of Python": lambda text: f"{text!r}\n",
    "bytes of Python": lambda text: f"{text.encode()!r}\n",
    "a notebook": notebook(1, "stream"),
    "a notebook on one line": notebook(None, "stream"),
    "a traceback in a notebook": notebook(1, "error"),
}


@pytest.mark.parametrize("cause", PLAIN)
def test_plain(cause: str) -> None:
    assert [found.cause for found in diagnose(ROWS, text=PLAIN[cause])][:1] == [cause]


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("cause", PLAIN)
def test_wrapped(cause: str, wrapping: str) -> None:
    found = diagnose(ROWS, text="\n".join(split_lines(WRAPPINGS[wrapping](PLAIN[cause]))))
    assert [one.cause for one in found][:1] == [cause]


@pytest.mark.parametrize("cause", PLAIN)
def test_as_powershell_writes_it(cause: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(("\ufeff" + PLAIN[cause].replace("\n", "\r\n")).encode("utf-16-le"))
    found = diagnose(ROWS, text="\n".join(read_log(str(tmp_path / "log")).lines))
    assert [one.cause for one in found][:1] == [cause]


@pytest.mark.parametrize(
    "line",
    [
        r"C:\new\text\report.txt was written",
        '{"changed": true}',
        "{not json}",
        '{"a": ' * 2000 + "}",
        '"',
        "'quoted' and plain",
        "=> {",
    ],
)
def test_what_holds_no_line_stays_as_it_is(line: str) -> None:
    assert inner_lines(line) == [line]
