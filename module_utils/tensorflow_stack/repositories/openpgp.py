"""OpenPGP public keys (RFC 4880, RFC 9580): told by fingerprint, cut out of keyrings. Nothing is verified with them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Iterator, Sequence

from ..errors import StackError

_PUBLIC_KEY = 6
_SECRET_KEY = 5
_LAST_TAG_OF_KEYRINGS = 21
_BLOCK = re.compile(
    rb"^-----BEGIN PGP PUBLIC KEY BLOCK-----[ \t]*\r?\n(.*?)^-----END PGP PUBLIC KEY BLOCK-----[ \t]*\r?$", re.M | re.S
)


@dataclass(frozen=True)
class Key:
    """A primary key and, in `packets`, what belongs to it: user ids, subkeys, signatures."""

    version: int
    fingerprint: str  # of version 4, upper case; empty for others, whose fingerprints are made another way
    packets: bytes


def read_keys(data: bytes) -> list[Key]:
    """The primary keys of a file, armoured or binary. Raises StackError if it holds anything else."""
    if is_armoured(data):
        data = b"".join(_decode(block) for block in _BLOCK.findall(data))
    keys: list[Key] = []
    for tag, body, packet in _packets(data):
        if tag == _SECRET_KEY:
            raise StackError("it contains a secret key")
        if tag == _PUBLIC_KEY:
            keys.append(Key(body[0], _fingerprint(body), packet))
        elif not keys:
            raise StackError(f"it begins with an OpenPGP packet of type {tag}, not with a public key")
        else:
            last = keys[-1]
            keys[-1] = Key(last.version, last.fingerprint, last.packets + packet)
    if not keys:
        raise StackError("it contains no OpenPGP key")
    return keys


def armour(keys: Sequence[Key]) -> bytes:
    data = b"".join(key.packets for key in keys)
    text = base64.b64encode(data)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    checksum = b"=" + base64.b64encode(_crc24(data).to_bytes(3, "big"))
    head, end = (b"-----%s PGP PUBLIC KEY BLOCK-----" % word for word in (b"BEGIN", b"END"))
    return b"\n".join([head, b"", *lines, checksum, end, b""])


def is_armoured(data: bytes) -> bool:
    return _BLOCK.search(data) is not None


def is_keybox(data: bytes) -> bool:
    """Whether it is gpg's own format of keyrings, which apt does not read either."""
    return data[8:12] == b"KBXf"


def _decode(block: bytes) -> bytes:
    head, blank, body = block.replace(b"\r\n", b"\n").partition(b"\n\n")
    if block.startswith((b"\n", b"\r\n")):
        body = block
    elif not blank or not all(b": " in line for line in head.splitlines()):
        raise StackError("its ASCII armour has no blank line after the header")
    lines = [line.strip() for line in body.splitlines() if line.strip()]
    checksum = lines.pop()[1:] if lines and lines[-1].startswith(b"=") else None
    try:
        data = base64.b64decode(b"".join(lines), validate=True)
        expected = None if checksum is None else int.from_bytes(base64.b64decode(checksum, validate=True), "big")
    except binascii.Error as error:
        raise StackError(f"its ASCII armour is damaged ({error})") from error
    if expected is not None and expected != _crc24(data):
        raise StackError("the checksum of its ASCII armour is wrong")
    return data


def _crc24(data: bytes) -> int:
    """RFC 4880, 6.1."""
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc


def _packets(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Type, body and whole of each packet (RFC 4880, 4.2)."""
    start = 0
    while start < len(data):
        first = data[start]
        tag = first & 0x3F if first & 0x40 else (first >> 2) & 0x0F
        if not first & 0x80 or not 0 < tag <= _LAST_TAG_OF_KEYRINGS:
            raise StackError("it is not OpenPGP data")
        after = data[start + 1 : start + 6]
        if first & 0x40:
            header, length = _new_length(after)
        else:
            octets = (1, 2, 4, 0)[first & 3]
            header, length = (octets, int.from_bytes(after[:octets], "big")) if octets else (0, -1)
        end = start + 1 + header + length
        if length < 0 or end > len(data) or (tag == _PUBLIC_KEY and length < 6):
            raise StackError("it is truncated or not an OpenPGP key")
        yield tag, data[start + 1 + header : end], data[start:end]
        start = end


def _new_length(octets: bytes) -> tuple[int, int]:
    """Octets of the length, and the length; -1 for partial lengths, which keys do not have."""
    if len(octets) > 0 and octets[0] < 192:
        return 1, octets[0]
    if len(octets) > 1 and octets[0] < 224:
        return 2, ((octets[0] - 192) << 8) + octets[1] + 192
    if len(octets) > 4 and octets[0] == 255:
        return 5, int.from_bytes(octets[1:5], "big")
    return 0, -1


def _fingerprint(body: bytes) -> str:
    if body[0] != 4:
        return ""
    # SHA-1 is what version 4 is defined by; a second key of the same fingerprint is still out of reach.
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()
