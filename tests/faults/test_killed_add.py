"""make add killed by SIGKILL at each of its steps: the environment in use is unchanged, and the next run completes."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from ansible.module_utils.tensorflow_stack.environment import builds

from tests.faults.test_killed_playbook import kill_everything_about
from tests.index import serve
from tests.integration.test_added import Machine
from tests.integration.test_additions import MINOR, NAME, RELEASE
from tests.playbooks import REPOSITORY

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def held() -> threading.Event:
    """While it is set, the index does not answer."""
    return threading.Event()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, uv: str, held: threading.Event) -> Iterator[Machine]:
    if RELEASE is None:
        pytest.skip(f"no release of these tests has a wheel for Python {MINOR}")
    wheels = tmp_path_factory.mktemp("wheels")
    with serve(wheels, held) as index:
        machine = Machine(tmp_path_factory.mktemp("machine"), uv, wheels, index)
        assert machine.play("workstation").code == 0
        machine.install("pytz==2026.1")  # by hand: carried by the first that gets through
        yield machine


def resolving(machine: Machine, held: threading.Event) -> Callable[[], bool]:
    held.set()
    started = time.monotonic()
    return lambda: time.monotonic() > started + 15


def locked(machine: Machine, held: threading.Event) -> Callable[[], bool]:
    return lambda: any((machine.site.locks / "added").rglob("*-cpu-*.txt"))


def installing(machine: Machine, held: threading.Event) -> Callable[[], bool]:
    log = machine.site.root / ".builds" / f"{NAME}.log"
    log.unlink()

    def is_installing() -> bool:
        if locked(machine, held)():
            held.set()
        return log.exists() and "Building" in log.read_text()

    return is_installing


@pytest.mark.slow  # a playbook and its repair for each moment; test_killed_build.py has the boundaries in CI
@pytest.mark.parametrize(
    ("moment", "package"),
    [
        (resolving, "pandas==2.3.3"),
        (locked, "pandas==2.3.4"),
        (installing, "scipy==1.14.0"),
    ],
)
def test_killed(
    machine: Machine,
    held: threading.Event,
    moment: Callable[[Machine, threading.Event], Callable[[], bool]],
    package: str,
) -> None:
    before = (machine.live, machine.versions)
    for path in (machine.site.locks / "added").rglob("*.txt"):
        path.unlink()
    is_there = moment(machine, held)
    process = subprocess.Popen(
        machine.site.command(
            "add",
            tensorflow_packages=package,
            tensorflow_index_url=machine.index,
            tensorflow_check_level="libraries",
        ),
        cwd=REPOSITORY,
        env={**os.environ, "ABOUT": str(machine.site.root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not is_there():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    assert kill_everything_about(str(machine.site.root))
    assert process.wait() == -signal.SIGKILL
    held.clear()

    assert (machine.live, machine.versions) == before
    assert machine.play("verify").code == 0, "what was applied is as it was"

    run = machine.play("add", tensorflow_packages=package)
    assert run.code == 0, run.output
    assert package in machine.added and "pytz==2026.1" in machine.added
    assert all(build.record for build in builds.builds_of(str(machine.site.root), NAME)), "no leftovers"
    assert not [path for path in (machine.site.locks / "added").rglob("*") if path.name.startswith(".")]
