"""What an environment has beside its release and requirements file, and what of that a new build is given. Pure.

Two kinds: requirements that were recorded when its lock was made (`make add`, or carried before), and additions, which
a person installed and no lock has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement

from ..errors import StackError
from ..locking.added import project_of, shortened
from ..records.additions import Addition, line_of, lost_additions
from ..records.distributions import normalised
from ..requirements.parse import OTHER_BUILDS, TENSORFLOW_PROJECTS
from .node import Environment
from .stack import Refusal


@dataclass(frozen=True)
class Changes:
    """What `make add` is to change: lines to add, and projects to take out again."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    @property
    def projects(self) -> set[str]:
        return {*map(project_of, self.add), *self.remove}


@dataclass(frozen=True)
class Carried:
    """Additions as requirements of the next lock, by project; and those that cannot be one, with the reason.

    `pins` are of those that come with another one, which a lock need not name.
    """

    lines: Mapping[str, str]
    pins: Mapping[str, str]
    listings: Mapping[str, str]
    versions: Mapping[str, str]
    stuck: tuple[tuple[Addition, str], ...]


def recorded_lines(row: Environment | None, changes: Changes) -> dict[str, str]:
    """By project, the requirements that the next lock has beside those of the release and of a file."""
    lines = {project_of(line): line for line in (row.added if row else ())}
    both = {project_of(line) for line in changes.add} & {*changes.remove}
    if both:
        raise StackError(f"{', '.join(sorted(both))} would be added and taken out. Give each package once.")
    unknown = [name for name in changes.remove if name not in lines]
    if row is not None and unknown:
        by_hand = sorted({normalised(addition.name) for addition in row.additions} & {*unknown})
        raise StackError(
            f"{', '.join(unknown)} is not among what make add recorded for {row.name}: "
            f"{', '.join(lines.values()) or 'nothing'}."
            + (f" {', '.join(by_hand)} was installed by hand: uv pip uninstall takes it out." if by_hand else "")
        )
    for line in changes.add:
        project = project_of(line)
        # Asked for once more by its mere name, it is there already.
        if project not in lines or Requirement(line).specifier or Requirement(line).extras:
            lines[project] = line
    return {project: line for project, line in lines.items() if project not in changes.remove}


def is_built_anew(row: Environment, digest: str | None) -> bool:
    """Would a run leave the build that is in use, and not for another one that has the same additions?"""
    if row.digest == digest:
        return bool(row.damage)
    return digest not in row.also_in


def carry(
    row: Environment, *, packages: Mapping[str, str], named: Collection[str], in_file: Collection[str]
) -> Carried:
    """What of a person's additions a new lock has to hold, if it has these packages by itself.

    `named` are projects that `make add` is given, `in_file` those that a requirements file names: what these say holds.
    """
    lines: dict[str, str] = {}
    pins: dict[str, str] = {}
    listings, versions = {}, {}
    stuck = []
    for addition in lost_additions(row.additions, packages, named=named):
        reason = _why_not(addition)
        project = normalised(addition.name)
        if addition.version is not None:
            versions[project] = addition.version
        is_open = project in named or (project in in_file and addition.replaces is None and addition.origin is None)
        if is_open and addition.version is not None:
            continue
        if reason:
            stuck.append((addition, reason))
        else:
            (pins if addition.is_required else lines)[project] = line_of(addition)
            if addition.listing:
                listings[project] = addition.listing
    return Carried(lines, pins, listings, versions, tuple(stuck))


def _why_not(addition: Addition) -> str | None:
    if addition.version is None:
        return "no package"
    project = normalised(addition.name)
    if project in TENSORFLOW_PROJECTS or project in OTHER_BUILDS:
        return "TensorFlow itself"
    if addition.origin is not None:
        return f"from {addition.origin}; the index's {project} may be another project"
    try:
        Requirement(line_of(addition))
    except InvalidRequirement:
        return "a version that no package index has"
    return None


def refuse_stuck(path: str, stuck: Iterable[tuple[Addition, str]]) -> Refusal:
    """What a new build could not have, each with its reason: the run stops before anything is done."""
    named = [f"{addition.text} ({reason})" for addition, reason in stuck]
    return Refusal(
        "environment",
        found=f"additions in {path} that it cannot have: {shortened(named)}",
        wanted="a new build",
        # Short: a screen has room for a few lines, and what is found is the news.
        set="Take them out for this run, or set tensorflow_additions to drop.",
    )
