"""What a user's file says of TensorFlow: which releases it allows, and what is said if none of them runs. Pure."""

from __future__ import annotations

from typing import Any

from ..errors import StackError
from ..requirements import parse
from ..tables.load import Tables
from ..tables.releases import find_release, renamed
from ..tables.rows import Release
from . import plan
from .stack import Assessment, Refusal

_SHOWN_RELEASES = 4


def is_accepted(assessment: Assessment, wishes: parse.UserRequirements | None) -> bool:
    """Does the user's file, if there is one and it names TensorFlow, allow this release?"""
    if wishes is None or assessment.stack is None:
        return True
    asked = parse.tensorflow_requirement(wishes, assessment.stack.python.minor)
    if asked is None:
        # Named on another Python only: then this one is not meant.
        return not parse.names_tensorflow(wishes)
    version = assessment.release.version
    return asked.specifier.contains(version, prereleases=True) and asked.project in assessment.release.packages


def check_named_release(tables: Tables, wishes: parse.UserRequirements) -> None:
    """Raises RefusedError, with the nearest ones, where the file pins TensorFlow to a release that is not known.

    Raises StackError where the project that it names has no such release.
    """
    for wish in parse.named_tensorflow(wishes):
        for specifier in wish.requirement.specifier:
            if specifier.operator not in ("==", "===") or "*" in specifier.version:
                continue
            release = next((row for row in tables.releases if specifier.contains(row.version)), None)
            if release is None:
                find_release(tables, specifier.version, where=f" ({wish.where})")
            elif wish.project not in release.packages:
                instead = renamed(tables, wish.project, wish.requirement.specifier)
                raise StackError(f"{wish.where} asks for {wish.project}{wish.requirement.specifier}. {instead}")


def nothing_runs(
    tables: Tables, wishes: parse.UserRequirements | None, releases: list[dict[str, Any]]
) -> dict[str, Any]:
    """The plan if no release runs that the file, if there is one, allows; `releases` are those of the tables."""
    allowed = [row for row in releases if wishes and _allows(wishes, find_release(tables, row["release"]))]
    runs = [row["release"] for row in releases if row["runs"]]
    if wishes and allowed and not any(row["runs"] for row in allowed):
        versions = _shortened([row["release"] for row in allowed])
        refusal = _not_one_runs(f"{wishes.path} allows {versions}, which cannot run here", allowed)
    elif wishes and runs:
        refusal = Refusal(
            "release",
            found=f"{wishes.path} allows none of the releases that run here ({_shortened(runs)})",
            wanted="one TensorFlow release",
            set=_instead(tables, wishes) or "Change its TensorFlow requirement.",
        )
    else:
        refusal = _not_one_runs(f"none of {len(releases)} releases runs here", releases)
    return plan.refuse(None, (refusal,))


def _instead(tables: Tables, wishes: parse.UserRequirements) -> str | None:
    """For a file that names a project of TensorFlow which ended before the releases that it allows."""
    found = (renamed(tables, wish.project, wish.requirement.specifier) for wish in parse.named_tensorflow(wishes))
    return next((text for text in found if text), None)


def _not_one_runs(what: str, rows: list[dict[str, Any]]) -> Refusal:
    newest = rows[0]
    example = f"the newest, {newest['release']}, " if len(rows) > 1 else ""
    return Refusal(
        "release",
        found=f"{what}, {example}because of {newest['reasons'][0].rstrip('.')}",
        wanted="one TensorFlow release",
        set="playbooks/plan.yml lists the reasons for each release.",
    )


def _allows(wishes: parse.UserRequirements, release: Release) -> bool:
    """Does one of the file's lines for TensorFlow allow this release, whatever its marker?"""
    return any(
        wish.requirement.specifier.contains(release.version, prereleases=True) and wish.project in release.packages
        for wish in parse.named_tensorflow(wishes)
    )


def _shortened(versions: list[str]) -> str:
    shown = ", ".join(versions[:_SHOWN_RELEASES])
    others = len(versions) - _SHOWN_RELEASES
    return f"{shown} and {others} older ones" if others > 1 else ", ".join(versions)
