"""A release of the tables by its name or by its minor, or the nearest ones in the words of a refusal."""

from __future__ import annotations

import re

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ..errors import RefusedError
from .load import Tables
from .rows import Release

# What others call it.
_NEWEST = ("latest", "stable", "last")


def find_release(tables: Tables, version: str, *, where: str = "") -> Release:
    """The table's row of a release; RefusedError naming the nearest ones when there is none, and `where` it stands."""
    release = tables.release(version)
    if release:
        return release
    known = [row.version for row in tables.releases]
    several = [word for word in re.split(r"[\s,;]+", version) if tables.release(word)]
    if len(several) > 1 and not where:
        raise RefusedError(
            f"An environment has one TensorFlow release, and tensorflow_version is {version!r}. Set it to "
            f"{several[0]}, and run once more for each other one.",
            asked=version,
        )
    if version.strip().lower() in _NEWEST and not where:
        raise RefusedError(
            f"TensorFlow {version} is not a known release. Set tensorflow_version to newest for the newest that runs "
            f"here, or to a release such as {known[-1]}.",
            asked=version,
        )
    is_minor = is_a_minor(version)
    # example
    hint = " (all three numbers, in quotes: YAML reads 2.10 as 2.1)" if is_minor and not where else ""
    raise RefusedError(
        f"TensorFlow {version}{where} is not a known release; the nearest are "
        f"{', '.join(_nearest(version, known))}. "
        f"{'Write one of them' if where else 'Set tensorflow_version to one of them'}{hint}.",
        asked=version,
    )


def is_a_minor(version: str) -> bool:
    """Whether all patches of a minor are meant, as by "2.15" and "2.15.*"."""
    return bool(re.fullmatch(r"\s*v?[0-9]+\.[0-9]+(\.[*x])?\s*", version))


def newest_patch(tables: Tables, version: str) -> str:
    """The newest patch of a minor, or a release as the table has it; anything that is not known unchanged."""
    if not is_a_minor(version):
        release = tables.release(version)
        return release.version if release else version
    minor = re.findall("[0-9]+", version)
    patches = [row.version for row in tables.releases if row.version.split(".")[:2] == minor]
    return patches[-1] if patches else version


def renamed(tables: Tables, project: str, specifier: SpecifierSet) -> str | None:
    """What to write for a project of TensorFlow that ends before the releases of `specifier`; None if it does not."""
    allowed = [row for row in tables.releases if specifier.contains(row.version, prereleases=True)]
    if not allowed or any(project in row.packages for row in allowed):
        return None
    last = [row.version for row in tables.releases if project in row.packages][-1:]
    minor = allowed[-1].version.rpartition(".")[0]
    newest = newest_patch(tables, minor)
    also = f" (or =={allowed[-1].version})" if newest != allowed[-1].version else ""
    ends = f"{project} ends with {last[0]}; from then on the" if last else f"There is no {project}; the"
    return f"{ends} project is {allowed[-1].package}. Write {allowed[-1].package}=={newest}{also}."


def _nearest(version: str, known: list[str]) -> list[str]:
    """Up to three known releases: those of the same minor, else the neighbours in order."""
    number = re.search(r"[0-9]+(\.[0-9]+)*", version)
    try:
        asked = Version(number.group() if number else version)
    except ValueError:  # no version, or one of thousands of digits
        return known[-3:]
    same_minor = [row for row in known if Version(row).release[:2] == asked.release[:2]]
    if same_minor:
        return same_minor[-3:]
    below = [row for row in known if Version(row) < asked]
    above = [row for row in known if Version(row) > asked]
    return below[-2:] + above[:1] or known[-3:]
