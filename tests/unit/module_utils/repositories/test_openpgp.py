from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.repositories.openpgp import armour, is_armoured, is_keybox, read_keys

from tests.keys import FIRST, FIRST_KEY, RETIRED, RETIRED_KEY, SECOND, SECOND_KEY
from tests.needs import require

BINARY = b"".join(key.packets for data in (FIRST_KEY, RETIRED_KEY) for key in read_keys(data))
LINES = SECOND_KEY.splitlines()


@pytest.mark.parametrize(
    ("data", "fingerprints"),
    [
        (FIRST_KEY, [FIRST]),
        (RETIRED_KEY, [RETIRED]),
        (BINARY, [FIRST, RETIRED]),
        (FIRST_KEY + SECOND_KEY, [FIRST, SECOND]),
        (b"Key of our mirror\n\n" + SECOND_KEY, [SECOND]),
        (SECOND_KEY.replace(b"\n", b"\r\n"), [SECOND]),
        (SECOND_KEY.replace(b"BLOCK-----\n\n", b"BLOCK-----\nVersion: GnuPG v2.0.22 (GNU/Linux)\n\n"), [SECOND]),
        (b"\n".join([*LINES[:-2], LINES[-1], b""]), [SECOND]),  # without checksum, as RFC 9580 has it
    ],
    ids=["subkey", "rsa", "binary", "two blocks", "text before", "crlf", "header", "no checksum"],
)
def test_fingerprints(data: bytes, fingerprints: list[str]) -> None:
    assert [key.fingerprint for key in read_keys(data)] == fingerprints


def test_armour_is_what_gpg_writes() -> None:
    for data in (FIRST_KEY, SECOND_KEY, RETIRED_KEY):
        assert armour(read_keys(data)) == data
    assert is_armoured(FIRST_KEY)
    assert not is_armoured(BINARY)


def test_key_keeps_what_belongs_to_it() -> None:
    first, retired = read_keys(BINARY)
    assert first.packets + retired.packets == BINARY
    assert read_keys(first.packets) == [first]


def test_gpg_reads_what_was_cut_out(tmp_path: Path) -> None:
    require("gpg")
    path = tmp_path / "cut.asc"
    path.write_bytes(armour(read_keys(BINARY)[:1]))
    command = ["gpg", "--homedir", str(tmp_path), "--show-keys", "--with-colons", str(path)]
    seen = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [line.split(":")[9] for line in seen.splitlines() if line.startswith("fpr:")]
    assert found[0] == FIRST
    assert RETIRED not in found


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "contains no OpenPGP key"),
        (b"<html>404</html>", "is not OpenPGP data"),
        (BINARY[:-7], "truncated"),
        (SECOND_KEY.replace(LINES[3][:8], LINES[3][:8][::-1]), "checksum"),
        (SECOND_KEY.replace(LINES[3], b"?" + LINES[3][1:]), "is damaged"),
        (SECOND_KEY.replace(b"BLOCK-----\n\n", b"BLOCK-----\n"), "no blank line"),
        (b"\xc5" + BINARY[1:2] + BINARY[2:], "secret key"),
        (b"\x88" + bytes([len(BINARY) % 200]) + bytes(200), "begins with an OpenPGP packet of type 2"),
        (b"\xc6\xe1" + bytes(10), "truncated"),  # a partial length
        (b"\x9b" + bytes(10), "truncated"),  # no length at all
        (b"\xc6\x01\x04", "truncated"),
    ],
)
def test_refuses(data: bytes, problem: str) -> None:
    with pytest.raises(StackError, match=problem):
        read_keys(data)


def test_other_versions_have_no_fingerprint() -> None:
    body = b"\x06" + bytes(40)
    assert [(key.version, key.fingerprint) for key in read_keys(b"\xc6" + bytes([len(body)]) + body)] == [(6, "")]


@pytest.mark.parametrize("length", [100, 300, 9000])
def test_new_lengths(length: int) -> None:
    """One, two and five octets; the old header of the same body has the same fingerprint."""
    body = b"\x04" + bytes(length - 1)
    octets = {
        100: bytes([100]),
        300: bytes([192 + (300 - 192 >> 8), 300 - 192 & 0xFF]),
        9000: b"\xff" + (9000).to_bytes(4, "big"),
    }
    old = read_keys(b"\x99" + length.to_bytes(2, "big") + body)
    assert [key.fingerprint for key in read_keys(b"\xc6" + octets[length] + body)] == [key.fingerprint for key in old]


def test_keybox() -> None:
    assert is_keybox(b"\x00\x00\x00\x20\x01\x01\x00\x02KBXf" + bytes(20))
    assert not is_keybox(BINARY)
