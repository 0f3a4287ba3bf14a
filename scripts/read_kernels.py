#!/usr/bin/env python3
"""Read from TensorFlow wheels what their GPU kernels are: machine code, and PTX of which version and target.

    scripts/read_kernels.py --table                       the rows of kernels.yml, from the wheels on the index
    scripts/read_kernels.py --table --release 2.19.1      only this release; may be repeated
    scripts/read_kernels.py tensorflow-2.19.1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl

Needs neither a GPU nor CUDA. A wheel gives one line for each kind of fat binary: how many there are, for which GPUs
they have machine code, and their PTX. The table is read by HTTP range requests, which takes half a minute and 1 GB of
temporary disk for each release; it is the same, byte for byte, each time.
"""

from __future__ import annotations

import argparse
import io
import json
import mmap
import re
import shutil
import struct
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from check_releases import TABLES, HttpFile, Index, Wheel
from packaging.version import Version
from tensorflow_stack.tables.load import load_tables
from tensorflow_stack.tables.rows import Release

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
# The first release of the table; a kernel of 1.15 has several PTX.
OLDEST = Version("2.4")

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


def libraries(archive: zipfile.ZipFile) -> Iterator[tuple[str, Counter[Kind]]]:
    """The kinds in each large library of a wheel, the largest library first."""
    for member in sorted(archive.infolist(), key=lambda member: -member.file_size):
        if ".so" not in member.filename or member.file_size < LEAST_BYTES:
            continue
        with tempfile.TemporaryFile() as file:
            with archive.open(member) as packed:
                shutil.copyfileobj(packed, file, 1 << 20)
            file.flush()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                found = kinds(data)
        yield member.filename, found


# ---------------------------------------------------------------------------------------------- the table


def read_release(index: Index, release: Release) -> list[dict[str, Any]]:
    """The kinds of a release's kernels as they are in kernels.yml: those with machine code and PTX.

    Raises SystemExit if its wheel for aarch64 has any.
    """
    with _open(_newest(index, release, "x86_64")) as archive:
        _, found = next(libraries(archive))
    if release.aarch64 == "cpu":
        with _open(_newest(index, release, "aarch64")) as archive:
            if any(of_aarch64 for _, of_aarch64 in libraries(archive)):
                raise SystemExit(f"{release.version}: its wheel for aarch64 has GPU kernels")
    rows = []
    for (machine, ptx), count in sorted(found.items()):
        if not machine or not ptx:
            continue
        if len(ptx) > 1:
            raise SystemExit(f"{release.version}: kernels with several PTX: {ptx}")
        target, version = ptx[0]
        machine_code = [f"sm_{number}" for number in machine]
        rows.append({"count": count, "machine_code": machine_code, "ptx": {"target": target, "version": version}})
    return sorted(rows, key=lambda row: -row["count"])


def _newest(index: Index, release: Release, architecture: str) -> Wheel:
    """Its wheel for the newest Python."""
    wheels = (wheel for wheel in index.wheels(release.package) if wheel.version == Version(release.version))
    return [wheel for wheel in wheels if wheel.architecture == architecture][-1]


def _open(wheel: Wheel) -> zipfile.ZipFile:
    # It is read nearly whole, so in large pieces.
    raw: IO[bytes] = io.BufferedReader(HttpFile(wheel.url, wheel.size), 8 << 20)
    return zipfile.ZipFile(raw)


def table(read: Iterator[tuple[str, list[dict[str, Any]]]]) -> Iterator[str]:
    """The lines of kernels.yml: one for each minor whose patches are alike, else one for each release."""
    for (major, minor), patches in groupby(read, key=lambda row: Version(row[0]).release[:2]):
        rows = list(patches)
        if all(kernels == rows[0][1] for _, kernels in rows):
            yield _line(f">={major}.{minor},<{major}.{minor + 1}", rows[0][1])
        else:
            yield from (_line(f"=={release}", kernels) for release, kernels in rows)


def _line(releases: str, kernels: list[dict[str, Any]]) -> str:
    shown = ", ".join(
        f"{{count: {kernel['count']}, machine_code: [{', '.join(kernel['machine_code'])}], "
        f'ptx: {{target: {kernel["ptx"]["target"]}, version: "{kernel["ptx"]["version"]}"}}}}'
        for kernel in kernels
    )
    return f"  - {{releases: {json.dumps(releases)}, kernels: [{shown}], source: [wheels]}}"


def _read_all(index: Index, versions: list[str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for release in load_tables(str(TABLES)).releases:
        if Version(release.version) >= OLDEST and (not versions or release.version in versions):
            print(f"reading {release.version}", file=sys.stderr)
            yield release.version, read_release(index, release)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", nargs="*", type=Path)
    parser.add_argument("--table", action="store_true", help="print the rows of kernels.yml")
    parser.add_argument("--release", action="append", default=[], help="with --table: only this one")
    parser.add_argument("--index-url", default="https://pypi.org/simple", help="default: %(default)s")
    arguments = parser.parse_args()
    if arguments.table:
        for line in table(_read_all(Index(arguments.index_url), arguments.release)):
            print(line, flush=True)
    for wheel in arguments.wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name, found in libraries(archive):
                for (machine, ptx), count in sorted(found.items()):
                    code = " ".join(f"sm_{number}" for number in machine) or "none"
                    texts = " ".join(f"{target}:{version}" for target, version in ptx) or "none"
                    print(f"{wheel.name.split('-')[1]} {name}: {count:5} machine code {code}; PTX {texts}", flush=True)


if __name__ == "__main__":
    main()
