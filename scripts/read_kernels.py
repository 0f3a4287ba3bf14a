#!/usr/bin/env python3
"""Read from a TensorFlow wheel what its GPU kernels are: machine code, and PTX of which version and target.

    scripts/read_kernels.py tensorflow-2.19.1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl

Needs neither a GPU nor CUDA. One line for each kind of fat binary: how many there are, for which GPUs they have machine
code, and their PTX. The rows of kernels.yml are made from this.
"""

from __future__ import annotations

import argparse
import mmap
import re
import shutil
import struct
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# A fat binary: this word, version 1, a header of 16 bytes, and in that the size of the entries that follow.
FAT_BINARY = bytes.fromhex("50ed55ba01001000")
HEADER = 16
ENTRY_HEADER = 64  # the shortest that was seen
PTX, MACHINE_CODE = 1, 2
IS_LZ4 = 0x2000
# `.version` and `.target` stand at the start of a PTX text, after comments.
PTX_HEAD = 4096
# What is smaller has no kernels, or only those of a library that is linked in whole.
LEAST_BYTES = 50 << 20

Kind = tuple[tuple[int, ...], tuple[tuple[str, str], ...]]  # machine code for, and (target, version) of PTX


def kinds(data: bytes | mmap.mmap) -> Counter[Kind]:
    """How many fat binaries there are of each kind."""
    found: Counter[Kind] = Counter()
    start = data.find(FAT_BINARY)
    while start >= 0:
        kind = _kind(data, start)
        if kind:
            found[kind] += 1
        start = data.find(FAT_BINARY, start + 1)
    return found


def _kind(data: Any, start: int) -> Kind | None:
    machine: set[int] = set()
    ptx: set[tuple[str, str]] = set()
    at = start + HEADER
    if at > len(data):
        return None
    end = at + struct.unpack_from("<Q", data, start + 8)[0]
    while at < end:
        if at + ENTRY_HEADER > len(data):
            return None
        what, header, size, packed = struct.unpack_from("<H2xIQI", data, at)
        architecture, flags = struct.unpack_from("<I8xQ", data, at + 28)
        if what not in (PTX, MACHINE_CODE) or not ENTRY_HEADER <= header <= 4096:
            return None  # the word stood there by chance
        if what == MACHINE_CODE:
            machine.add(architecture)
        else:
            body = data[at + header : at + header + (packed or size)]
            ptx.add(_version_and_target(lz4_head(body, PTX_HEAD) if flags & IS_LZ4 else body[:PTX_HEAD]))
        at += header + size
    return tuple(sorted(machine)), tuple(sorted(ptx))


def _version_and_target(text: bytes) -> tuple[str, str]:
    version, target = re.search(rb"^\.version\s+([\d.]+)", text, re.M), re.search(rb"^\.target\s+(\w+)", text, re.M)
    if not version or not target:
        raise SystemExit(f"PTX that names no version and target: {text[:80]!r}")
    return target[1].decode(), version[1].decode()


def lz4_head(block: bytes, length: int) -> bytes:
    """The first bytes of what an LZ4 block (no frame around it) unpacks to."""
    out, at = bytearray(), 0
    while at < len(block) and len(out) < length:
        token, at = block[at], at + 1
        literals, at = _long(block, at, token >> 4)
        out += block[at : at + literals]
        at += literals
        if at + 2 > len(block):
            break
        offset, at = block[at] | block[at + 1] << 8, at + 2
        copied, at = _long(block, at, token & 15)
        for _ in range(copied + 4):
            out.append(out[-offset])
    return bytes(out[:length])


def _long(block: bytes, at: int, number: int) -> tuple[int, int]:
    while number >= 15:
        number, at = number + block[at], at + 1
        if block[at - 1] != 255:
            break
    return number, at


def libraries(wheel: Path) -> Iterator[tuple[str, mmap.mmap]]:
    """The large libraries of a wheel, each unpacked while it is looked at."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if ".so" not in member.filename or member.file_size < LEAST_BYTES:
                continue
            with tempfile.TemporaryFile() as file:
                with archive.open(member) as packed:
                    shutil.copyfileobj(packed, file, 1 << 20)
                file.flush()
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    yield member.filename, data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", nargs="+", type=Path)
    for wheel in parser.parse_args().wheels:
        for name, data in libraries(wheel):
            for (machine, ptx), count in sorted(kinds(data).items()):
                code = " ".join(f"sm_{number}" for number in machine) or "none"
                texts = " ".join(f"{target}:{version}" for target, version in ptx) or "none"
                print(f"{wheel.name.split('-')[1]} {name}: {count:5} machine code {code}; PTX {texts}", flush=True)


if __name__ == "__main__":
    main()
