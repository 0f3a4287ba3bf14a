"""What of a stack gets no security fixes any more, and what is known to be wrong with it."""

from __future__ import annotations

from ..tables.load import Tables
from ..tables.rows import Release
from .stack import Driver, Python


def life_warnings(
    tables: Tables, release: Release, python: Python, driver: Driver | None, today: str
) -> tuple[str, ...]:
    """One warning for each part past its life on `today` (2026-11-22)."""
    month = today[:7]
    warnings = []
    if release.version != tables.releases[-1].version:
        warnings.append(_release_warning(tables, release))
    for row in tables.python_lives:
        if row.minor == python.minor and row.end_of_life < month:
            page = tables.addresses["pythons"]
            warnings.append(f"Python {row.minor} has had no security fixes since {row.end_of_life} ({page}).")
    # Of one that is chosen here, the choice itself says so.
    version = driver.present if driver and not driver.is_of_system else None
    branch = tables.driver_branch(int(version.split(".")[0])) if version else None
    if branch and branch.has_ended(today):
        page = tables.addresses["driver_branches"]
        what = "gets no security fixes any more: NVIDIA lists it as ended"
        if branch.end_of_life != "ended":
            what = f"has had no security fixes since {branch.end_of_life}"
        warnings.append(f"The driver's branch {branch.branch} {what} ({page}).")
    return tuple(warnings)


def _release_warning(tables: Tables, release: Release) -> str:
    known = ", ".join(
        f"{row.advisory} ({row.what}; fixed in {row.fixed_in})" for row in tables.vulnerabilities_of(release.version)
    )
    minor = release.version.split(".")[:2]
    last = [row.version for row in tables.releases if row.version.split(".")[:2] == minor][-1]
    return (
        f"TensorFlow {release.version} gets no security fixes, only the newest release does "
        f"({tables.addresses['releases']})"
        + (f"; known of it: {known}" if known else "")
        + "."
        + (f" {last} has the last fixes of its minor." if last != release.version else "")
    )
