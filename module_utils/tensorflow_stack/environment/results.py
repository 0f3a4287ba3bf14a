"""What `tensorflow_venv` returns of what it did."""

from __future__ import annotations

import os
from typing import Any

from ..records.build import read_record
from ..records.lockfile import package_lines
from .builds import Build
from .changes import EnvironmentOutcome


def result_of(root: str, name: str | None, image: dict[str, Any] | None, outcome: EnvironmentOutcome) -> dict[str, Any]:
    """`image` is the one that the run was to mount."""
    target = outcome.target or str(name)
    carried = {row.name: row.version for row in outcome.found if row.version and row not in outcome.dropped}
    before = {**(outcome.before.packages if outcome.before else {}), **carried}
    in_use = (read_record(os.path.join(root, ".builds", outcome.build)) if outcome.build else None) or {}
    planned = {"image": (image or {}).get("sha256")}
    return {
        "changed": outcome.changed,
        "action": outcome.action,
        # Not `path`: ansible-core adds owner, mode and size of what exists to a result with that key.
        "environment": os.path.join(root, target),
        "build": outcome.build,
        "release": in_use.get("release"),
        "flavour": in_use.get("flavour"),
        "damage": [text for _, text in outcome.damage],
        "additions": [addition.text for addition in outcome.additions],
        "dropped": [addition.text for addition in outcome.dropped],
        "kept_builds": list(outcome.kept_builds),
        "removed_builds": list(outcome.removed_builds),
        "passed_over": list(outcome.passed_over),
        "bytes_to_fetch": outcome.bytes_to_fetch,
        "seconds": outcome.seconds,
        "diff": {
            "before": package_lines(before)
            + _image_line(outcome.before and outcome.before.record)
            + "".join(f"# {text}\n" for text in _said_of(outcome)),
            "after": package_lines(outcome.after_packages) + _image_line(in_use or planned),
            "before_header": _environment_of(outcome.before) or target,
            "after_header": target,
        },
    }


def _image_line(record: dict[str, Any] | None) -> str:
    return f"# the image {record['image'][:12]}\n" if record and record.get("image") else ""


def _environment_of(build: Build | None) -> str | None:
    return build.record["name"] if build and build.record else None


def _said_of(outcome: EnvironmentOutcome) -> list[str]:
    """Of the environment before: what is wrong with it, and what goes that no lock names."""
    texts = [text for _, text in outcome.damage]
    gone = [addition.text if addition.replaces else f"{addition.text} was added" for addition in outcome.dropped]
    return texts + [text for text in gone if text not in texts]
