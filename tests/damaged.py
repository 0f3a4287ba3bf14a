"""Texts as a disk, a person, a server or an attacker may damage them, for hypothesis."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

DEEP = b"[" * 50_000 + b"]" * 50_000
# What may be in the place of any value.
_VALUES = st.sampled_from(
    [None, True, 0, -1, 10**30, 1.5, "", "²", "x\0y", "a\nb", "../../x", "/etc/passwd", "9" * 5000, "é" * 300, "\ud800"]
    + [[], [1], [None], ["²"], [[]], [{}], {}, {"x": 1}, {"": None}, {"version": 1, "source": []}]
).map(copy.deepcopy)  # what is put into a text may be changed there
_PIECES = st.sampled_from(
    [
        b"\0",
        b"\xff\xfe",
        b"\xc2\xb2",
        b"\xed\xa0\x80",
        b"\n",
        b"\r",
        b"\t",
        b" ",
        b"'",
        b'"',
        b",",
        b"::",
        b"{{ x }}",
        b"%s",
    ]
    + [b"../", b"-", b"9" * 5000, b"-1", b"1e999", b"NaN", b"<html>", b"]]>", b"\x1b[31m", b"\xe2\x80\xae", DEEP]
)
# What servers and disks put in the place of all of it.
_OTHERS = st.sampled_from(
    [b"", b"\0" * 512, DEEP, b'{"a":' * 50_000, b"null", b"[]", b"{}", b'"text"', b"1", b"\xef\xbb\xbf{}"]
    + [b"<html><body><h1>502 Bad Gateway</h1></body></html>", b"\x1f\x8b\x08\x00garbage", b"PK\x03\x04", b"\xff" * 300]
)


def damaged(text: bytes) -> st.SearchStrategy[bytes]:
    """The text with one or several faults, or something else instead."""
    ways = [_cut(text), _spliced(text), _OTHERS, st.binary(max_size=120)]
    try:
        value = json.loads(text)
    except ValueError:
        return st.one_of(*ways)
    changed = _with_other_values(value).map(lambda found: json.dumps(found).encode())
    # Most of what is not JSON any more is refused at the same place.
    return st.one_of(changed, changed, changed, *ways)


def _cut(text: bytes) -> st.SearchStrategy[bytes]:
    return st.integers(0, max(len(text) - 1, 0)).map(lambda end: text[:end])


@st.composite
def _spliced(draw: st.DrawFn, text: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 0, 1, 4, 40])))
        text = text[:start] + draw(_PIECES | st.binary(min_size=1, max_size=4)) + text[end:]
    return text


@st.composite
def _with_other_values(draw: st.DrawFn, value: Any) -> Any:
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.sampled_from([(), *_places(value)]))
        if not place:
            return draw(_VALUES)
        above = value
        for key in place[:-1]:
            above = above[key]
        way = draw(st.sampled_from(["replace", "replace", "remove", "rename", "nest"]))
        if way == "replace":
            above[place[-1]] = draw(_VALUES)
        elif way == "nest":
            above[place[-1]] = [above[place[-1]]]
        elif isinstance(above, list) or way == "remove":
            del above[place[-1]]
        else:
            above[draw(st.sampled_from(["²", "", "../x", "x\0y", "a\nb", "n" * 300]))] = above.pop(place[-1])
    return value


def _places(value: Any) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield (key,)
        yield from ((key, *rest) for rest in _places(item))
