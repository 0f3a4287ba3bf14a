"""Two controllers at once, and clocks that are wrong: each run ends well or says by whom it was held up."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.environment import changes, installing, venv
from ansible.module_utils.tensorflow_stack.environment.bookkeeping import Done, record_in_manifest
from ansible.module_utils.tensorflow_stack.errors import BuildError, BusyError
from ansible.module_utils.tensorflow_stack.records import manifest
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec

from tests.wheels import make_lock, make_tensorflow

MINOR = "%d.%d" % sys.version_info[:2]
SLOW = "import time\ntime.sleep(1.5)"
CHILD = """
import pickle, sys
import tests.conftest
from tests.faults.test_at_once import Root
root, name = pickle.load(sys.stdin.buffer)
print(root.apply(root.spec(name)))
"""


class Root:
    def __init__(self, path: Path, uv: str) -> None:
        self.path, self.uv, self.wheels = path / "root", uv, path / "wheels"
        self.wheels.mkdir()
        self.tensorflow = make_tensorflow(self.wheels, "2.8.0", SLOW)

    def spec(self, name: str, **given: Any) -> EnvironmentSpec:
        lock = make_lock(self.tensorflow, release="2.8.0", python=MINOR)
        python = given.get("python", os.path.realpath(sys.executable))
        return EnvironmentSpec(name, str(self.path), "2.8.0", "cpu", python, lock)

    def apply(self, spec: EnvironmentSpec, *, wait: float = 30) -> str:
        cache = os.path.join(self.path, ".cache", "uv")
        installer = installing.Installer(uv=self.uv, index_url=self.wheels.as_uri(), cache=cache)
        outcome = venv.apply_present(spec, installer=lambda: installer, keep=2, lock_timeout=wait)
        record_in_manifest(str(self.path), spec.name, Done(outcome.action, None))
        return outcome.action


@pytest.fixture
def root(tmp_path: Path, uv: str) -> Root:
    return Root(tmp_path, uv)


@pytest.mark.parametrize("names", [("a", "a"), ("a", "b")], ids=["the same environment", "two environments"])
def test_two_runs_both_end_well_and_both_are_recorded(root: Root, names: tuple[str, str]) -> None:
    """In two processes, because a file lock is of a process."""
    ends: list[subprocess.CompletedProcess[bytes]] = []
    repository = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(repository), str(repository / "scripts")])

    def run(name: str) -> None:
        command, environment = [sys.executable, "-c", CHILD], {**os.environ, "PYTHONPATH": path}
        ends.append(subprocess.run(command, input=pickle.dumps((root, name)), capture_output=True, env=environment))

    threads = [threading.Thread(target=run, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [done.returncode for done in ends] == [0, 0], [done.stderr[-500:] for done in ends]
    expected = ["build", "keep"] if names[0] == names[1] else ["build", "build"]
    assert sorted(done.stdout.decode().strip() for done in ends) == expected
    assert manifest.read(str(root.path))["environments"].keys() == set(names)
    for name in names:
        assert changes.plan_present(root.spec(name)).action == "keep"


def test_who_holds_it_is_named_by_process_and_program(root: Root) -> None:
    program = (
        "import fcntl, os, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(flush=True); time.sleep(60)"
    )
    lock = root.path / ".locks" / "a"
    lock.parent.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", program, str(lock)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout
            holder.stdout.readline()
            with pytest.raises(BusyError, match=rf"process {holder.pid} \(python.*tensorflow_venv_lock_timeout"):
                root.apply(root.spec("a"), wait=0.5)
        finally:
            holder.kill()


@pytest.mark.parametrize("year", [1971, 2242])
def test_files_of_another_century_are_kept_and_built_upon(root: Root, year: int) -> None:
    assert root.apply(root.spec("a")) == "build"
    when = (year - 1970) * 365.25 * 86400
    for path in [root.path, *root.path.rglob("*")]:
        os.utime(path, (when, when), follow_symlinks=False)
    assert root.apply(root.spec("a")) == "keep"
    assert root.apply(root.spec("b")) == "build"


def test_an_interpreter_that_sleeps_is_named_in_time(root: Root, tmp_path: Path) -> None:
    sleeper = tmp_path / "python3"
    sleeper.write_text("#!/bin/sh\nexec sleep 600\n")
    sleeper.chmod(0o755)
    started = time.monotonic()
    with pytest.raises(BuildError, match="does not end within 10 s. Set tensorflow_python to another one"):
        root.apply(root.spec("a", python=str(sleeper)))
    assert time.monotonic() - started < 30
    assert not (root.path / "a").exists()
