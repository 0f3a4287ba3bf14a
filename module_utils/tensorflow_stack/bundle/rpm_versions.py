"""The order of rpm's versions, and which version a dependency takes. Pure.

It is the order of rpm's own rpmvercmp: the machine that makes a bundle need not have rpm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SEPARATORS = re.compile("[^a-zA-Z0-9~^]*")
_SEGMENT = re.compile("[0-9]+|[a-zA-Z]+|[~^]|$")


@dataclass(frozen=True)
class Relation:
    """What a package requires or provides; `operator` is empty, or one of < <= = >= > with a version after it."""

    name: str
    operator: str = ""
    version: str = ""

    def is_met_by(self, provided: Relation) -> bool:
        """Whether the versions of both have one in common, as rpm sees it; without a version, any will do."""
        if not self.operator or not provided.operator:
            return True
        order = compare_versions(provided.version, self.version)
        if order < 0:
            return ">" in provided.operator or "<" in self.operator
        if order > 0:
            return "<" in provided.operator or ">" in self.operator
        return bool(set(provided.operator) & set(self.operator))

    def __str__(self) -> str:
        return f"{self.name} {self.operator} {self.version}" if self.operator else self.name


def compare_versions(left: str, right: str) -> int:
    """-1, 0 or 1 for `epoch:version-release`. No epoch is 0; a release counts if both have one."""
    (epoch, version, release), (other_epoch, other_version, other_release) = _split(left), _split(right)
    order = compare_parts(epoch, other_epoch) or compare_parts(version, other_version)
    if order or not release or not other_release:
        return order
    return compare_parts(release, other_release)


def compare_parts(left: str, right: str) -> int:
    """-1, 0 or 1 for two versions or two releases."""
    while left or right:
        left, right = _SEPARATORS.sub("", left, count=1), _SEPARATORS.sub("", right, count=1)
        one, other = _first(left), _first(right)
        if "~" in (one, other) and one != other:
            return -1 if one == "~" else 1
        if "^" in (one, other) and one != other:
            # Newer than the same without it, and older than with anything else.
            if not one or not other:
                return 1 if one else -1
            return -1 if one == "^" else 1
        if not one or not other:
            return bool(one) - bool(other)
        if one.isdigit() != other.isdigit():
            return 1 if one.isdigit() else -1
        if one.isdigit() and int(one) != int(other):
            return 1 if int(one) > int(other) else -1
        if not one.isdigit() and one != other:
            return 1 if one > other else -1
        left, right = left[len(one) :], right[len(other) :]
    return 0


def _split(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.partition(":")
    number, _, release = (rest if colon else version).partition("-")
    return (epoch if colon else "") or "0", number, release


def _first(text: str) -> str:
    found = _SEGMENT.match(text)
    return found.group() if found else ""
