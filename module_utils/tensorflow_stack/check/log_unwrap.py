"""Lines inside of other formats: a notebook, a line of JSON, a result of Ansible, a quoted string of Python. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, Iterator

# What holds the text of a line in the JSON of docker, journald, fluentd, cloud logging, Ansible and notebooks.
_TEXT_KEYS = frozenset(
    ("MESSAGE", "body", "error", "evalue", "exception", "line", "log", "message", "module_stderr", "module_stdout")
    + ("msg", "output", "stderr", "stdout", "text", "text/plain", "textPayload", "traceback")
)
# Longer objects are no line of a log.
_LONGEST_OBJECT = 1 << 22
_RESULT_OF_ANSIBLE = "=> {"
_QUOTED = re.compile(
    r"""^\s*[bru]{0,2}["']|["'](?:msg|message|stderr|stdout|output|error|text|line)["']: *[bru]{0,2}["']"""
)
_WHOLE = re.compile(r"""^\s*[bru]{0,2}(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')\s*[,\])]*$""")
_ESCAPED = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([nrt\"'/\\]))")
_PLAIN = {"n": "\n", "r": "\n", "t": "\t"}


def whole_lines(text: str) -> list[str] | None:
    """The output in a notebook; None if the text is none."""
    if text.lstrip()[:1] != "{" or '"cells"' not in text:
        return None
    content = _parsed(text)
    if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
        return None
    outputs = [cell.get("outputs") for cell in content["cells"] if isinstance(cell, dict)]
    return [line for part in _texts(outputs) for line in part.splitlines()]


def inner_lines(line: str) -> list[str]:
    """The lines that a line holds; itself if it holds none."""
    stripped = line.strip()
    if stripped[:1] == "{" and stripped[-1:] == "}":
        found = list(_texts(_parsed(stripped)))
        if found:
            return [inner for text in found for inner in text.splitlines()]
    if _RESULT_OF_ANSIBLE in line:
        head, _, rest = line.partition(_RESULT_OF_ANSIBLE)
        found = list(_texts(_parsed("{" + rest)))
        if found:
            return [head.rstrip(), *(inner for text in found for inner in text.splitlines())]
    whole = _WHOLE.match(line)
    if whole:
        return _ESCAPED.sub(_unescaped, whole.group(1) or whole.group(2) or "").splitlines() or [line]
    if "\\" in line and _QUOTED.search(line):
        lines = _ESCAPED.sub(_unescaped, line).splitlines()
        return [re.sub(r"""["']\s*[,\]})]*$""", "", inner) for inner in lines] or [line]
    return [line]


def _parsed(text: str) -> Any:
    if len(text) > _LONGEST_OBJECT:
        return None
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _texts(value: Any, key: str | None = None) -> Iterator[str]:
    """Every text under one of the keys, at any depth."""
    if isinstance(value, str):
        if key in _TEXT_KEYS:
            yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, name if isinstance(item, (str, list)) else None)
    elif isinstance(value, list):
        if value and all(isinstance(item, str) for item in value):
            if key in _TEXT_KEYS:
                # A notebook has one line with its end in each item, a traceback one without.
                yield ("" if value[0].endswith("\n") else "\n").join(value)
        else:
            for item in value:
                yield from _texts(item, key)


def _unescaped(match: re.Match[str]) -> str:
    code = match.group(1) or match.group(2)
    return chr(int(code, 16)) if code else _PLAIN.get(match.group(3), match.group(3))
