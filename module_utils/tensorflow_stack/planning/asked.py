"""What was asked for when an environment was built: a run that names no release asks for the same again. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..tables.load import Tables
from ..tables.releases import is_a_minor, newest_patch
from .added import Changes
from .applied import find_applied
from .node import Environment, NodeFacts
from .stack import Policy


@dataclass(frozen=True)
class Wish:
    """What an inventory asks for. `release` is also "newest", "current", or empty if it names none."""

    release: str
    environment: str | None
    requirements: str | None  # path of a file on the controller
    policy: Policy
    notes: tuple[str, ...] = ()

    @property
    def variables(self) -> dict[str, Any]:
        """Those that were set, for the manifest. It has the requirements file by itself."""
        named = {"tensorflow_environment": self.environment} if self.environment else {}
        return {"tensorflow_version": self.release, **named, **self.policy.asked}


def read_policy(options: Mapping[str, Any], today: str) -> Policy:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }
    return Policy(**values, today=today)


def resolve(
    tables: Tables, node: NodeFacts, wish: Wish, changes: Changes, is_there: Callable[[str], bool]
) -> tuple[Wish, Environment | None]:
    """The whole wish, and the environment that is to be as it was applied, if it is about one."""
    if changes.projects:
        wish = replace(wish, release="current", environment=_changed_environment(tables, wish))
    wish = complete(wish, node, is_there)
    named = wish.release
    wish = replace(wish, release=newest_patch(tables, named))
    if is_a_minor(named):
        note = (
            f"{named} was requested, and {wish.release} is its newest patch. For another patch, set all three numbers."
        )
        wish = replace(wish, notes=(*wish.notes, note))
    return wish, find_applied(node, wish.environment) if named == "current" else None


def _changed_environment(tables: Tables, wish: Wish) -> str | None:
    """What make add is about: an environment that exists, None for the one applied last."""
    release = newest_patch(tables, wish.release)
    return wish.environment or (None if release in ("", "newest", "current") else f"tensorflow-{release}")


def complete(wish: Wish, node: NodeFacts, is_there: Callable[[str], bool]) -> Wish:
    """A wish without a release is that of the run before, which may have left it open as well.

    `is_there` says whether a requirements file still exists on the controller.
    """
    if wish.release:
        return wish
    row = node.environment(wish.environment) if wish.environment else node.current_environment
    if row is None or wish.requirements:
        return replace(wish, release="newest")
    file = row.requirements_path
    if not row.is_requirements_path_recorded or (file and not is_there(file)):
        gone = f"{file}, from which it was made, does not exist on the controller" if file else "its file is not known"
        return replace(
            wish,
            release="current",
            environment=row.name,
            notes=(f"No release was named: {row.name} stays as it was applied, because {gone}.",),
        )
    asked = row.asked or {}
    release = asked.get("tensorflow_version")
    if not isinstance(release, str) or release in ("", "current"):
        release = row.release
    return Wish(
        release=release,
        environment=wish.environment or _own_name(row),
        requirements=file,
        policy=wish.policy.with_asked(asked),
        notes=() if release == "newest" and not file else (_note(release, file),),
    )


def as_applied(variables: dict[str, Any], row: Environment | None) -> dict[str, Any]:
    """The variables of a run that changes an environment without naming its release: those of then and its own."""
    if row is None or row.asked is None:
        return variables
    before = {name: value for name, value in row.asked.items() if name not in _ONE_RUN}
    own = {name: value for name, value in variables.items() if (name, value) != ("tensorflow_version", "current")}
    return {"tensorflow_version": row.release, **before, **own}


# Of the run that they were set for.
_ONE_RUN = ("tensorflow_packages", "tensorflow_packages_removed")


def _own_name(row: Environment) -> str | None:
    """Its name, unless that is the one that it has by its release."""
    named = (row.asked or {}).get("tensorflow_environment")
    return row.name if named or row.name != f"tensorflow-{row.release}" else None


def _note(release: str, file: str | None) -> str:
    of_file = f" with {file}" if file else ""
    return (
        f"No release was named, so this is what was asked for last: TensorFlow {release}{of_file}. For another one set "
        "tensorflow_version (make: TENSORFLOW=), for example to newest."
    )
