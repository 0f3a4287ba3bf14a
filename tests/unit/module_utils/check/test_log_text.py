from __future__ import annotations

import gzip
import os
import time
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.check.log_text import bare_forms, read_log, split_lines
from ansible.module_utils.tensorflow_stack.errors import StackError

LINE = "E: Unable to locate package nvidia-driver-580"


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (LINE.encode(), [LINE]),
        (b"\xef\xbb\xbf" + LINE.encode(), [LINE]),
        (LINE.encode("utf-16"), [LINE]),
        (b"\xfe\xff" + LINE.encode("utf-16-be"), [LINE]),
        (LINE.encode("utf-16-le"), [LINE]),
        (LINE.encode("utf-16-be"), [LINE]),
        (LINE.encode("utf-32"), [LINE]),
        (b"caf\xe9\r\nnext\rlast\n", ["caf\ufffd", "next", "last"]),
        (b"lone \xed\xa0\x80 surrogate", ["lone \ufffd\ufffd\ufffd surrogate"]),
        (b"a\x00b\x07c\x08", ["abc"]),
        (b"\x1b[1;31mE:\x1b[0m red \x1b]0;title\x07end", ["E: red end"]),
        (b"^[[31mE: cat -v^[[0m", ["E: cat -v"]),
        ("left\u202eright\u200b".encode(), ["leftright"]),
        (b"", []),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_bytes_become_lines(tmp_path: Path, body: bytes, lines: list[str]) -> None:
    path = tmp_path / "log"
    path.write_bytes(body)
    log = read_log(str(path))
    assert log.lines == lines
    assert log.is_empty is not bool(lines)
    "\n".join(log.lines).encode("utf-8")


def test_every_byte_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(bytes(range(256)) * 3)
    "\n".join(read_log(str(path)).lines).encode("utf-8")


def test_lone_surrogates_of_a_text_are_replaced() -> None:
    assert split_lines("a\udcfcb") == ["a\ufffdb"]


def test_a_long_line_is_looked_through_whole() -> None:
    middle = "x" * 3990 + LINE + "y" * 1_000_000
    assert any(LINE in line for line in split_lines(middle))
    assert max(map(len, split_lines(middle))) <= 2000


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_of_a_big_log_start_and_end_are_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(("first\n" + "middle of it\n" * 1_000_000 + "last").encode(encoding))
    log = read_log(str(path))
    assert (log.lines[0], log.lines[-1]) == ("first", "last")
    assert set(log.lines[10:100]) == {"middle of it"}
    assert log.note == f"The log has {path.stat().st_size >> 20} MiB; its first 1 and last 3 MiB were read."


def test_a_huge_file_takes_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open(path, "wb") as stream:
        stream.truncate(1 << 40)
    start = time.monotonic()
    assert read_log(str(path)).is_empty
    assert time.monotonic() - start < 10


def test_what_is_no_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "packed").write_bytes(gzip.compress(LINE.encode()))
    cases = {
        "/dev/zero": "The log /dev/zero is a device. Write the text to a file, and name that file.",
        f"{tmp_path}/pipe": "is a pipe.",
        str(tmp_path): "is a directory.",
        f"{tmp_path}/packed": "is compressed (gzip). Unpack it",
        f"{tmp_path}/none": "does not exist",
        f"{tmp_path}/packed/below": "cannot be read: Not a directory.",
    }
    for path, message in cases.items():
        with pytest.raises(StackError) as refusal:
            read_log(path)
        assert message in refusal.value.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_log_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch(mode=0)
    with pytest.raises(StackError, match="cannot be read: Permission denied"):
        read_log(str(path))


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "node-3 | ",
        "trainer-1  | ",
        "[pod/trainer-0/main] ",
        "2026-11-22T14:43:50.123456789Z ",
        "2026-11-22T14:43:50.1Z stderr F ",
        "2026-11-22 14:43:50,123 ",
        "Nov 22 14:43:50 gpu01 kernel: ",
        "Nov  2 14:43:50 gpu01 nvidia-smi[123]: ",
        "2026-11-22T14:43:50+0100 gpu01 kernel: ",
        "[   12.345678] ",
        "[Sun Nov 22 14:43:50 2026] ",
        "gpu01: ",
        "[gpu01] ",
        "[1,0]<stderr>:",
        "#12 3.456 ",
        "null_resource.gpu (remote-exec): ",
        "trainer-1  | 2026-11-22T14:43:50.123Z Nov 22 14:43:50 gpu01 kernel: ",
    ],
)
def test_what_other_tools_put_before_a_line(prefix: str) -> None:
    assert "iF  nvidia-dkms-535" in bare_forms(f"{prefix}iF  nvidia-dkms-535")
