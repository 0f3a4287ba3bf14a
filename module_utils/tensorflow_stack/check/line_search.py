"""Look for many regular expressions in a log, fast: only in lines with a text that each of them needs. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Iterator, Sequence

from .log_text import bare_forms, has_start

# A shorter text is in most lines, and saves nothing.
_SHORTEST = 3
_OPTIONAL = re.compile(r"[?*]|\{0?,")
_REPEATED = re.compile(r"(?:[+*?]|\{\d*,?\d*\})\??")
_GROUP = re.compile(r"\((?:\?(?:P<\w+>|[aiLmsux]*:|(?P<around><?[=!])|(?P<apart>P=\w+\)|[aiLmsux]+\))))?")
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]")


class Lines:
    """The distinct lines of a log, in their order, ready to be searched."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = list(dict.fromkeys(filter(None, (line.strip() for line in lines))))
        lowered = [line.lower() for line in self.lines]
        self._text = "\n".join(lowered)
        self._forms: dict[int, tuple[str, ...]] = {}
        self._starts = []
        start = 0
        for line in lowered:
            self._starts.append(start)
            start += len(line) + 1

    def search(self, pattern: str) -> Iterator[tuple[int, re.Match[str]]]:
        """Every line in which the pattern is found: its number, and the match."""
        compiled = re.compile(pattern)
        looks_for_start = has_start(pattern)
        for number in self._candidates(needles(pattern)):
            for form in self._forms_of(number) if looks_for_start else (self.lines[number],):
                match = compiled.search(form)
                if match:
                    yield number, match
                    break

    def have(self, pattern: str) -> bool:
        return next(self.search(pattern), None) is not None

    def _forms_of(self, number: int) -> tuple[str, ...]:
        if number not in self._forms:
            self._forms[number] = bare_forms(self.lines[number])
        return self._forms[number]

    def _candidates(self, texts: Sequence[str]) -> Sequence[int]:
        if not texts:
            return range(len(self.lines))
        found: set[int] = set()
        for text in texts:
            position = self._text.find(text)
            while position >= 0:
                number = bisect_right(self._starts, position) - 1
                found.add(number)
                if number + 1 == len(self._starts):
                    break
                position = self._text.find(text, self._starts[number + 1])
        return sorted(found)


def needles(pattern: str) -> tuple[str, ...]:
    """Texts in lower case of which each match has at least one; none if no such text can be named."""
    found, _ = _alternatives(pattern, 0)
    return tuple(sorted(found))


def _alternatives(pattern: str, position: int) -> tuple[set[str], int]:
    """The needles of everything up to the end of a group, and where it ends."""
    found: set[str] = set()
    is_known = True
    while True:
        best, position = _branch(pattern, position)
        is_known = is_known and bool(best)
        found |= best
        if position >= len(pattern) or pattern[position] == ")":
            return (found if is_known else set()), position
        position += 1


def _branch(pattern: str, position: int) -> tuple[set[str], int]:
    """The best needles of one alternative, which ends at `|`, at `)` or with the pattern."""
    candidates: list[set[str]] = []
    run = ""
    while position < len(pattern) and pattern[position] not in "|)":
        literal, inside, position = _atom(pattern, position)
        repeated = _REPEATED.match(pattern, position)
        is_optional = bool(_OPTIONAL.match(pattern, position))
        if repeated:
            position = repeated.end()
        if literal and not is_optional:
            run += literal
        if repeated or not literal:
            candidates.append({run.lower()})
            run = ""
        if inside and not is_optional:
            candidates.append(inside)
    candidates.append({run.lower()})
    good = [texts for texts in candidates if min(map(len, texts)) >= _SHORTEST]
    return max(good, key=lambda texts: min(map(len, texts)), default=set()), position


def _atom(pattern: str, position: int) -> tuple[str, set[str], int]:
    """A character that has to be there, or what a group needs, and where the atom ends."""
    character = pattern[position]
    if character == "\\":
        escaped = pattern[position + 1]
        return ("" if escaped.isalnum() else escaped), set(), position + 2
    if character == "[":
        match = _CLASS.match(pattern, position)
        assert match, pattern
        return "", set(), match.end()
    if character == "(":
        match = _GROUP.match(pattern, position)
        assert match, pattern
        if match.group("apart"):
            return "", set(), match.end()
        inside, end = _alternatives(pattern, match.end())
        return "", (set() if match.group("around") else inside), end + 1
    return ("" if character in ".^$" else character), set(), position + 1
