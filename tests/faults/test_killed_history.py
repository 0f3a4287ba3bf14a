"""Changes killed by SIGKILL between the links and their record: links and history agree for whoever reads them next."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.environment import bookkeeping, builds, going_back, in_use, venv
from ansible.module_utils.tensorflow_stack.records import history, manifest

from tests.component.environment.test_going_back import NEW, OLD, Machine

# Where the run dies: a function of a module, and whether before its call, after it, or before its second call.
POINTS: dict[str, tuple[Any, str, str]] = {
    "before_the_link_of_the_environment": (venv, "_switch", "before"),
    "in_the_middle_of_that_switch": (venv.os, "replace", "before"),
    "switched_and_nothing_recorded": (bookkeeping, "_claim_link", "before"),
    "the_stable_path_claimed": (bookkeeping, "_claim_link", "after"),
    "before_the_stable_path": (bookkeeping, "point_to", "before"),
    "the_stable_path_not_in_place": (in_use.os, "symlink", "last"),
    "the_stable_path_and_not_the_manifest": (bookkeeping, "point_to", "after"),
    "the_manifest_not_in_place": (manifest, "write_json", "before"),
    "in_the_middle_of_a_removed_build": (builds.shutil, "rmtree", "half"),
    "all_of_it": (manifest, "write_json", "after"),
}


def _dying(owner: Any, name: str, moment: str) -> None:
    original = getattr(owner, name)

    def killed(*arguments: Any, **options: Any) -> Any:
        if moment == "half":
            next(path for path in Path(arguments[0]).rglob("*") if path.is_file()).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        is_ours = moment != "last" or arguments[0] in (NEW, OLD)
        if moment in ("before", "last") and is_ours:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **options)
        if moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, killed)


def _run(change: Callable[[], Any], point: tuple[Any, str, str]) -> int | None:
    """The exit code of a process that makes the change and is killed on the way."""

    def child() -> None:
        _dying(*point)
        change()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    return process.exitcode


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, uv: str) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"), uv)


@pytest.fixture
def machine(site: Machine) -> Machine:
    """What is built for one test is switched to by the next, so that each is quick."""
    for name, numpy in ((OLD, "1.23.5"), (NEW, "1.24.0"), (NEW, "1.23.5"), (OLD, "1.24.0")):
        site.run(name, numpy, keep=9)
    return site


CHANGES: dict[str, Callable[[Machine], Any]] = {
    "another_lock": lambda machine: machine.run(OLD, "1.23.5", keep=9),
    "another_release": lambda machine: machine.run(NEW, "1.24.0", keep=9),
    "rollback_to_another_release": lambda machine: machine.back(),
    "rollback_of_one": lambda machine: machine.back(OLD),
    "removal": lambda machine: machine.remove(OLD),
}


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_killed(machine: Machine, change: Callable[[Machine], Any], point: tuple[Any, str, str]) -> None:
    code = _run(lambda: change(machine), point)
    assert code in (0, -signal.SIGKILL), "not every change comes to each point"

    # What the next run reads, whatever it does.
    entries, position = going_back.read_history(machine.root)
    assert history.read_position(entries[-1]["after"]) == position
    content = manifest.read(machine.root)
    link = in_use.read_link(machine.root)
    if position and link:
        assert link == position.environment
    if position:
        python = os.path.join(machine.root, position.environment, "bin", "python")
        assert os.path.exists(python), "what is in use is there"
        assert going_back.plan_previous(machine.root).build != position.build

    # The next one of any kind completes it: its record asserts that the history ends with what the links say.
    machine.run(OLD, "1.25.0", keep=9)
    assert in_use.read_link(machine.root) == manifest.read(machine.root)["current"] == OLD
    told = manifest.read(machine.root)["history"]
    recent = content["history"][-5:]
    assert any(told[start : start + len(recent)] == recent for start in range(len(told))), (
        "nothing that was recorded is lost"
    )
    assert not os.path.lexists(Path(machine.root, ".builds", ".current.link"))
