"""The whole way killed: playbook, module and installer by SIGKILL while a real TensorFlow is being built."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from ansible.module_utils.tensorflow_stack.environment import builds

from tests.needs import python_of
from tests.playbooks import REPOSITORY, Site, kill_everything_about

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NAME = "tensorflow-2.8.0"
# What the build's log says when the kill comes; each run asks for another NumPy, so that each has to build.
POINTS = {
    "Building tensorflow": "1.22.0",
    "Prepared": "1.22.1",
    "Compiling": "1.22.2",
    "Importing TensorFlow": "1.22.3",
    "Switching to the new build": "1.22.4",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    python_of("3.9", "3.10")
    site = Site(tmp_path_factory.mktemp("killed"))
    assert site.play("workstation", tensorflow_version="2.8.0").code == 0
    yield site
    shutil.rmtree(site.path)


def _requirements(site: Site, numpy: str) -> str:
    path = site.path / "requirements.txt"  # another file would not take over the name of the environment
    path.write_text(f"tensorflow==2.8.0\nnumpy=={numpy}\n")
    return str(path)


@pytest.mark.parametrize(("said", "numpy"), POINTS.items(), ids=[said.split()[0] for said in POINTS])
def test_killed_when_the_log_says(site: Site, said: str, numpy: str) -> None:
    requirements = _requirements(site, numpy)
    log = site.root / ".builds" / f"{NAME}.log"
    log.unlink(missing_ok=True)
    before = os.readlink(site.root / NAME)
    process = subprocess.Popen(
        site.command("workstation", tensorflow_version="2.8.0", tensorflow_requirements=requirements),
        cwd=REPOSITORY,
        # The module's own process names the root nowhere else.
        env={**os.environ, "ABOUT": str(site.root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while said not in (log.read_text() if log.exists() else ""):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    killed = kill_everything_about(str(site.root))
    assert process.wait() == -signal.SIGKILL
    assert len(killed) > 1

    assert site.imports(NAME) == "2.8.0", "the live environment works"
    if said != "Switching to the new build":  # then the switch may have come before the kill
        assert os.readlink(site.root / NAME) == before

    run = site.play("workstation", tensorflow_version="2.8.0", tensorflow_requirements=requirements)
    assert run.code == 0, run.output
    assert run.report["succeeded"]
    assert site.python(NAME, "import numpy; print(numpy.__version__)").stdout.strip() == numpy
    assert all(build.record for build in builds.builds_of(str(site.root), NAME)), "no leftovers"
