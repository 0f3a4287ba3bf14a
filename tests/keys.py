"""Public keys made for tests with gpg; their secret halves are gone."""

from __future__ import annotations

from pathlib import Path

_DIRECTORY = Path(__file__).resolve().parent / "data" / "keys"

FIRST = "11CF9846810100E497AE40F263F09279BF8F129C"  # ed25519 with a subkey
SECOND = "46BB56614E7E7C24FC55675C9314E14B897FDE28"  # ed25519
RETIRED = "B6A9A689C367875DD60B9CBDD6D1A8807CC8E058"  # RSA

FIRST_KEY, SECOND_KEY, RETIRED_KEY = (
    (_DIRECTORY / f"{name}.asc").read_bytes() for name in ("first", "second", "retired")
)
