"""The .repo files that dnf reads: found sections, disabled sections, new ones. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Mapping, Sequence

from .apt_sources import place_of

_SECTION = re.compile(r"\[([^\]]+)\]")
_OPTION = re.compile(r"([^\s=#;][^=]*?)\s*=\s*(.*)")
_VARIABLE = re.compile(r"\\\$(?:\\\{\w+\\\}|\w+)")
_MARK = "# Disabled by tensorflow-gpu-stack: "


@dataclass(frozen=True)
class Section:
    """An enabled repository; `options` have names in lower case, several lines of a value joined by spaces."""

    path: str
    name: str
    start: int
    end: int
    options: Mapping[str, str]


def read_sections(path: str, text: str) -> list[Section]:
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if _SECTION.match(line)]
    sections = []
    for start, end in zip(starts, [*starts[1:], len(lines)]):
        options: dict[str, str] = {}
        name = ""
        for line in lines[start + 1 : end]:
            match = _OPTION.match(line)
            if match:
                name = match.group(1).lower()
                options[name] = match.group(2).strip()
            elif name and line.startswith((" ", "\t")):
                options[name] += " " + line.strip()
        heading = _SECTION.match(lines[start])
        if heading and heading.group(1) != "main" and options.get("enabled", "1").lower() in ("1", "yes", "true", "on"):
            sections.append(Section(path, heading.group(1), start, end, options))
    return sections


def is_at(section: Section, places: set[str]) -> bool:
    """Whether one of its URLs is at one of the places; a variable of dnf, such as $basearch, matches any name."""
    for url in re.split(r"[\s,]+", section.options.get("baseurl", "")):
        pattern = _VARIABLE.sub("[^/]+", re.escape(place_of(url))) if url else ""
        if any(re.fullmatch(pattern, place) for place in places if pattern):
            return True
    return False


def disable(text: str, sections: Sequence[Section], reason: str) -> str:
    lines = text.splitlines()
    for section in sorted(sections, key=lambda section: -section.start):
        kept = [line for line in lines[section.start + 1 : section.end] if not re.match(r"enabled\s*=", line, re.I)]
        lines[section.start : section.end] = [lines[section.start], _MARK + reason, "enabled=0", *kept]
    return "\n".join(lines) + "\n"


def section(name: str, options: Mapping[str, str]) -> str:
    return f"[{name}]\n" + "".join(f"{option}={value}\n" for option, value in options.items())
