"""How many bytes the programs of a run have received, as the kernel counts them for each of their sockets.

What an installer says of its download differs from program to program, and says nothing of a file that is half there.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import socket
import struct
from typing import Iterator

_NETLINK_SOCK_DIAG = 4
_DUMP_BY_FAMILY = 20
_REQUEST_AND_DUMP = 0x301
_TCP_INFO = 2
# Of struct inet_diag_msg: what is before the socket's inode, and the whole.
_INODE_AT, _MESSAGE_BYTES = 68, 72
# Of struct tcp_info, since Linux 4.1.
_BYTES_RECEIVED_AT = 128
_SOCKET = re.compile(r"socket:\[([0-9]+)\]\Z")


class Received:
    """Counts for the descendants of one process. A socket that was closed keeps what it had when it was last seen."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._bytes: dict[int, int] = {}

    def count(self) -> int:
        """Bytes so far; 0 too where the kernel does not say."""
        own = _sockets_of(_descendants(self._process))
        if own:
            with contextlib.suppress(OSError, struct.error):
                for inode, received in _received_by_socket():
                    if inode in own:
                        self._bytes[inode] = max(received, self._bytes.get(inode, 0))
        return self.total

    @property
    def total(self) -> int:
        """Bytes as they were counted last."""
        return sum(self._bytes.values())


def _descendants(process: int) -> list[int]:
    """All but programs of ssh, whose bytes are those of Ansible."""
    children: dict[int, list[tuple[int, str]]] = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            with open(path, encoding="utf-8", errors="replace") as stream:
                text = stream.read()
            head, _, fields = text.rpartition(") ")
            child, _, program = head.partition(" (")
            children.setdefault(int(fields.split()[1]), []).append((int(child), program))
    found: list[int] = []
    waiting = [process]
    while waiting:
        for number, program in children.get(waiting.pop(), []):
            if program != "ssh":
                found.append(number)
                waiting.append(number)
    return found


def _sockets_of(processes: list[int]) -> set[int]:
    found: set[int] = set()
    for number in processes:
        for path in glob.glob(f"/proc/{number}/fd/*"):
            with contextlib.suppress(OSError):
                matched = _SOCKET.match(os.readlink(path))
                if matched:
                    found.add(int(matched.group(1)))
    return found


def _received_by_socket() -> Iterator[tuple[int, int]]:
    """Inode and received bytes of each TCP socket of this network namespace."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as stream:
            stream.settimeout(1)
            wanted = struct.pack("=BBBBI48x", family, socket.IPPROTO_TCP, 1 << (_TCP_INFO - 1), 0, 0xFFFFFFFF)
            header = struct.pack("=IHHII", 16 + len(wanted), _DUMP_BY_FAMILY, _REQUEST_AND_DUMP, 0, 0)
            stream.send(header + wanted)
            for kind, body in _messages(stream):
                if kind != _DUMP_BY_FAMILY:
                    break
                (inode,) = struct.unpack_from("=I", body, _INODE_AT)
                for name, value in _attributes(body[_MESSAGE_BYTES:]):
                    if name == _TCP_INFO and len(value) >= _BYTES_RECEIVED_AT + 8:
                        yield inode, struct.unpack_from("=Q", value, _BYTES_RECEIVED_AT)[0]


def _messages(stream: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Each message of the kernel; the last one is of another kind."""
    while True:
        data = stream.recv(1 << 16)
        if not data:
            return
        while len(data) >= 16:
            length, kind = struct.unpack_from("=IH", data)
            yield kind, data[16:length]
            if length < 16:
                return
            data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, name = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield name, data[4:length]
        data = data[(length + 3) & ~3 :]
