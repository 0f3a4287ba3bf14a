"""Read a log whatever is in it: any bytes, size and kind of file, to lines that a pattern can be looked for in."""

from __future__ import annotations

import codecs
import os
import re
import stat
from dataclasses import dataclass

from ..errors import StackError
from .log_unwrap import inner_lines, whole_lines

# Of a bigger file its start and its end: the one says what runs, the other how it ended.
_HEAD_BYTES = 1 << 20
_TAIL_BYTES = 3 << 20
# No message is longer; a line of a log may be a megabyte. Parts overlap, so that none is cut through.
_LINE_LENGTH = 2000
_OVERLAP = 300

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins as that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
# Colours and titles of a terminal, as it gets them and as cat -v, JSON and syslog write them.
_ESCAPES = re.compile(
    r"(?:\x1b|\^\[|\\u001b|\\x1b|\\033|#033)\[[0-?]*[ -/]*[@-~]"
    r"|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\x1b[@-Z\\^_]|\x9b[0-?]*[ -/]*[@-~]"
)
# A terminal would obey them, and a reader not see them: control characters, directions, what has no width.
_UNSEEN = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
# What other tools put before a line, one of them at a time.
_PREFIXES = re.compile(
    r"""
    \[\s*\d+\.\d+\]\s  # dmesg
    | \[?(?:\w{3}\ )?\d{4}-\d\d-\d\d,?[T ]\ ?\d\d:\d\d:\d\d(?:[.,]\d+)?\ ?(?:Z|[+-]\d\d:?\d\d|UTC)?\]?:?\s  # ISO 8601
    | \[\w{3}\ \w{3}\ [ \d]\d\ \d\d:\d\d:\d\d\ \d{4}\]\s  # dmesg -T
    | (?:<\d+>)?\w{3}\ [ \d]\d\ \d\d:\d\d:\d\d(?:\.\d+)?\ \S+\ [\w./@()-]+(?:\[\d+\])?:\s  # syslog, journald
    | <\d+>\d\ \S{10,40}\ \S{1,80}\ \S{1,80}\ \S{1,40}\ \S{1,40}\ (?:-|\[.{0,200}?\])\ ?  # syslog of RFC 5424
    | \d\d:\d\d:\d\d(?:[.,]\d+)?\s  # a clock
    | \w{3}/\d\d\ \d\d:\d\d:\d\d\s  # a clock with a day
    | (?:[\w.-]+\ )?[\w./@()-]{1,80}(?:\[\d+\])?:\s  # a program or a host, pdsh, srun
    | (?:DEBUG|INFO|WARNING|ERROR|CRITICAL|FATAL|TRACE):[\w.]{1,80}:  # logging of Python
    | (?:[-|]\ )?[\w.]{0,80}\ ?[-|]\ (?:DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL)\ +[-|]\ (?:[\w.:<>]{1,80}\ [-|]\ )?
    | \{[\w.]{1,80}:\d+\}\ (?:DEBUG|INFO|WARNING|ERROR|CRITICAL)\ -\s  # Airflow
    | (?:stdout|stderr)\ [FP]\s  # containers' runtimes
    | [\w./-]{1,80}\s*\|\s  # docker compose
    | \[[\w./:@,\ -]{1,120}\]:?\s  # kubectl, Jenkins, Fabric, torchrun
    | \([\w.]{1,60}\ pid=\d+(?:,\ ip=[\w.:]{1,40})?\)\s  # Ray
    | \#\#\[\w{1,20}\]  # GitHub Actions
    | \d\d[OE]\+?\s  # GitLab
    | \S{1,80}\ \S{1,80}\ ›\s  # stern
    | \[\d+,\d+\]<std(?:out|err)>:\s?  # mpirun
    | \#\d+\ [\d.]+\s  # docker build
    | [\w.\[\]"-]{1,80}\ \((?:remote|local)-exec\):\s  # Terraform
    | (?:==>|-|--->|---->|>|\+|\*|│|┃)\s | ["']  # Packer, lists, quotations, frames
    """,
    re.VERBOSE,
)
_MOST_PREFIXES = 6


@dataclass(frozen=True)
class Log:
    """`lines` have no colours and no control characters; `note` says what of the file was not read."""

    lines: list[str]
    note: str | None = None

    @property
    def is_empty(self) -> bool:
        return not any(line.strip() for line in self.lines)


def read_log(path: str) -> Log:
    """The log in a file; StackError for what is no file, or no text."""
    head, tail, size = _read(path)
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            raise StackError(f"The log {path} is compressed ({name}). Unpack it, and use the text.")
    encoding = _encoding(head)
    text = head.decode(encoding, "replace")
    note = None
    if tail:
        # What is cut through at the seam is two lines.
        text += "\n" + tail.decode(encoding, "replace")
        read = f"its first {_HEAD_BYTES >> 20} and last {_TAIL_BYTES >> 20} MiB were read"
        note = f"The log has {size >> 20} MiB; {read}."
    return Log(split_lines(text), note)


def decode(data: bytes) -> str:
    """Whatever is in it, as text."""
    return data.decode(_encoding(data), "replace")


def split_lines(text: str) -> list[str]:
    """The lines of any text, each of a length that patterns can be looked for in."""
    text = _SURROGATES.sub("\ufffd", text)
    held = whole_lines(text)
    if held is None:
        held = [inner for line in text.splitlines() for inner in inner_lines(line)]
    lines = []
    for line in _UNSEEN.sub("", _ESCAPES.sub("", _SURROGATES.sub("\ufffd", "\n".join(held)))).splitlines():
        line = line.rstrip()
        while len(line) > _LINE_LENGTH:
            lines.append(line[:_LINE_LENGTH])
            line = line[_LINE_LENGTH - _OVERLAP :]
        lines.append(line)
    return lines


def bare_forms(line: str) -> tuple[str, ...]:
    """The line, and what it is without what other tools put before it."""
    forms = [line]
    for _ in range(_MOST_PREFIXES):
        prefix = _PREFIXES.match(forms[-1])
        if prefix is None:
            break
        forms.append(forms[-1][prefix.end() :].strip())
    return tuple(forms)


def has_start(pattern: str) -> bool:
    """Whether it may look for the start of a line, which is all that what stands before a line can hide."""
    return "^" in pattern


def _read(path: str) -> tuple[bytes, bytes, int]:
    """Start and end of a file, and its size; the end is empty where the start is all."""
    try:
        # Opening some devices does something, and opening a pipe waits.
        _refuse_kind(path, os.stat(path).st_mode)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            _refuse_kind(path, status.st_mode)
            # Files of /proc have no size.
            head = stream.read(_HEAD_BYTES + _TAIL_BYTES + 1)
            if len(head) <= _HEAD_BYTES + _TAIL_BYTES:
                return head, b"", len(head)
            # Characters of up to four bytes begin at multiples of four.
            stream.seek((max(status.st_size, len(head)) - _TAIL_BYTES) // 4 * 4)
            return head[:_HEAD_BYTES], stream.read(_TAIL_BYTES + 4), status.st_size
    except FileNotFoundError as error:
        raise StackError(f"The log {path} does not exist. Name an existing file.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StackError(f"The log {path} cannot be read: {reason}. Name a file that you may read.") from error


def _refuse_kind(path: str, mode: int) -> None:
    for is_kind, name in _KINDS:
        if is_kind(mode):
            raise StackError(f"The log {path} is {name}. Write the text to a file, and name that file.")


def _encoding(head: bytes) -> str:
    """By a byte order mark, else by where the zeros are: PowerShell writes UTF-16, not always with a mark."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding
    sample = head[:4096]
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if max(even, odd) > len(sample) // 5:
        return "utf-16-be" if even > odd else "utf-16-le"
    return "utf-8"
