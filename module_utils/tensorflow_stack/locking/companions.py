"""Distributions for TensorFlow whose bound is in an extra alone: `tensorflow<2.16; extra == "tensorflow"`. Pure."""

from __future__ import annotations

import email.parser
import re
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from ..requirements.parse import TENSORFLOW_PROJECTS

# Others, such as transformers, have a use without TensorFlow: what their extra bounds is the extra.
_NAME = re.compile(r"(tensorflow|tf|keras)\d*-.+|tf2onnx")
# TensorFlow requires these itself, at versions whose extra excludes it.
_PARTS = ("tensorflow-estimator", "tensorflow-io-gcs-filesystem")
# Not those of tests or of one part of it.
_EXTRA = re.compile(r"(tensorflow|tf)(-(gpu|cpu))?")


@dataclass(frozen=True)
class Bound:
    """What an extra of `name` wants of TensorFlow, which `release` is not."""

    name: str
    version: str
    requirement: str
    extra: str
    is_older: bool  # than the release: older versions of it want an older TensorFlow still

    @property
    def reason(self) -> str:
        """In the words of uv, so that it is explained as what uv finds."""
        return f"Because {self.name}=={self.version} depends on {self.requirement} and "


def is_companion(name: str) -> bool:
    return name not in (*TENSORFLOW_PROJECTS, *_PARTS) and _NAME.fullmatch(name) is not None


def overrules(asked: SpecifierSet, preferred: SpecifierSet) -> bool:
    """Does this name a version, or begin at one, that is not preferred?"""
    named = [
        Version(one.version) for one in asked if one.operator in ("==", ">=", ">", "~=") and "*" not in one.version
    ]
    return any(not preferred.contains(version, prereleases=True) for version in named)


def bound_against(name: str, version: str, metadata: str, release: str) -> Bound | None:
    """The bound by which this version excludes the release, None if it has none that does."""
    message = email.parser.HeaderParser().parsestr(metadata)
    for text in message.get_all("Requires-Dist") or ():
        try:
            requirement = Requirement(text)
            is_excluded = not requirement.specifier.contains(release, prereleases=True)
        except ValueError:  # what is no requirement, or has thousands of digits
            continue
        if requirement.name not in TENSORFLOW_PROJECTS:
            continue
        found = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", str(requirement.marker or ""))
        if found is None:
            # uv has compared it, and what its extras say of other builds is often out of date.
            return None
        extra = str(canonicalize_name(found[1]))
        # A release candidate in a bound is meant as its release.
        if requirement.name == "tensorflow" and _EXTRA.fullmatch(extra) and is_excluded:
            text = f"{requirement.name}{requirement.specifier}"
            return Bound(name, version, text, found[1], _is_below(requirement.specifier, release))
    return None


def _is_below(specifier: SpecifierSet, release: str) -> bool:
    """Does it end before the release?"""
    ends = [Version(one.version.replace(".*", "")) for one in specifier if one.operator in ("<", "<=", "==", "~=")]
    return any(end <= Version(release) for end in ends)
