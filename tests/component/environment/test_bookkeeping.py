"""What the node's record says of a whole environment, by a real build of small wheels."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment.bookkeeping import Done, record_in_manifest
from ansible.module_utils.tensorflow_stack.node.record import read_node
from ansible.module_utils.tensorflow_stack.records import manifest

from tests.component.environment.test_venv import NAME, Site, site  # noqa: F401  # the fixture


@pytest.fixture
def applied(site: Site) -> Site:  # noqa: F811
    build = str(site.apply().build)
    record_in_manifest(site.root, NAME, Done("build", None, requirements={build: None}))
    return site


def unfinished(site: Site, **asked: str) -> list[str]:  # noqa: F811
    (row,) = read_node(environments_root=site.root, **asked)["environments"]
    assert row["damage"] == []
    found: list[str] = row["unfinished"]
    return found


def test_nothing_is_left_to_do(applied: Site) -> None:
    assert unfinished(applied) == []


def never_completed(site: Site) -> str:  # noqa: F811
    Path(site.root, ".builds", f"{NAME}-0123456789ab-7", "lib").mkdir(parents=True)
    return f"{NAME}-0123456789ab-7 was never completed"


def killed_before_the_manifest(site: Site) -> str:  # noqa: F811
    def change(content: dict[str, dict[str, dict[str, str]]]) -> None:
        content["environments"][NAME]["build"] = "the one before"

    manifest.update(site.root, change)
    return f"manifest.json does not say what is in {NAME}"


def killed_before_the_stable_path(site: Site) -> str:  # noqa: F811
    os.unlink(os.path.join(site.root, "current"))
    return f"/current does not point to {NAME}"


def killed_before_the_history(site: Site) -> str:  # noqa: F811
    manifest.update(site.root, lambda content: content["history"].clear())
    return f"the history does not end with {os.path.basename(os.readlink(site.live))}"


def others_may_write(site: Site) -> str:  # noqa: F811
    os.chmod(site.root, 0o777)
    return "tensorflow_root"


@pytest.mark.parametrize(
    "change",
    [
        never_completed,
        killed_before_the_manifest,
        killed_before_the_stable_path,
        killed_before_the_history,
        others_may_write,
    ],
)
def test_what_a_run_would_do_or_refuse_is_named(applied: Site, change: Callable[[Site], str]) -> None:
    wanted = change(applied)
    (found,) = unfinished(applied)
    assert wanted in found


def test_an_environment_that_was_not_applied_last_is_looked_into_if_it_is_asked_for(applied: Site) -> None:
    def change(content: dict[str, object]) -> None:
        content["current"] = "another"  # as an earlier version of this toolkit does

    manifest.update(applied.root, change)
    (row,) = read_node(environments_root=applied.root)["environments"]
    assert row["damage"] is None
    assert unfinished(applied, environment=NAME) == []
