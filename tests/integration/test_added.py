"""What a person added is built in, by the playbooks and a package index of small wheels: see test_additions.py.

One machine's story in order: each test goes on from what the one before left. Without the slow ones it goes on too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.tensorflow_stack.environment import builds
from ansible.module_utils.tensorflow_stack.locking import door

from tests.index import serve
from tests.integration.test_additions import MINOR, NAME, RELEASE, TABLES, said
from tests.playbooks import LOCAL, REPOSITORY, Run, Site
from tests.wheels import make_tensorflow, make_wheel

pytestmark = pytest.mark.integration


class Machine:
    """A site with a package index of its own."""

    def __init__(self, path: Path, uv: str, wheels: Path, index: str) -> None:
        self.site, self.uv, self.wheels, self.index = Site(path), uv, wheels, index
        tools = self.site.root / ".tools" / Path(uv).parent.name
        tools.parent.mkdir(parents=True)
        shutil.copytree(Path(uv).parent, tools)
        self.publish()
        self.relock("1.26.3", "1.26.4")

    def publish(self) -> None:
        make_tensorflow(self.wheels, str(RELEASE), requires=["numpy<1.27"])
        # What the tables add to a release.
        self.wheel("tensorboard", "2.21.0")
        self.wheel("pip", "26.0")
        self.wheel("pandas", "2.3.3", requires=["pytz"])
        self.wheel("pandas", "2.3.4", requires=["pytz"])
        self.wheel("pytz", "2026.1")
        self.wheel("pytz", "2026.2")
        self.wheel("scipy", "1.14.0")
        self.wheel("scipy", "1.15.0")
        self.wheel("needs-old-numpy", "1.0", requires=["numpy<1.20"])

    def wheel(self, name: str, version: str, body: str = "", **more: Any) -> None:
        module = name.replace("-", "_")
        make_wheel(self.wheels, name, version, {f"{module}/__init__.py": f"version = {version!r}\n{body}"}, **more)

    def play(self, playbook: str, *options: str, **variables: Any) -> Run:
        given: dict[str, Any] = {"tensorflow_check_level": "libraries", "tensorflow_index_url": self.index}
        if playbook in ("workstation", "plan"):
            given.update(tensorflow_python=MINOR, tensorflow_gpu="none", tensorflow_version=RELEASE)
        return self.site.play(playbook, *options, **{**given, **variables})

    def install(self, *words: str | Path) -> None:
        python = self.site.root / NAME / "bin" / "python"
        subprocess.run(
            [self.uv, "pip", "install", "-q", "--no-cache", "--python", python, "--index-url", self.index, *words],
            check=True,
        )

    def uninstall(self, *names: str) -> None:
        python = self.site.root / NAME / "bin" / "python"
        subprocess.run([self.uv, "pip", "uninstall", "-q", "--python", python, *names], check=True)

    def relock(self, *published: str) -> None:
        """Another lock of the release, as an update of the toolkit has one: with the newest of these NumPys."""
        for path in self.wheels.glob("numpy-*.whl"):
            path.unlink()
        for version in published:
            self.wheel("numpy", version)
        options = {
            **dict.fromkeys(("requirements", "cutoff", "added")),
            "release": RELEASE,
            "pythons": [MINOR],
            "architectures": ["x86_64"],
            "flavours": ["cpu"],
            "directory": str(self.site.locks),
            "tables": str(TABLES),
            "upgrade": True,
            "index_url": self.index,
            "tools_directory": str(REPOSITORY / ".tools"),
        }
        door.answer(options, check_mode=False)

    @property
    def versions(self) -> dict[str, str]:
        program = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
        words = self.site.python(NAME, program).stdout.split()
        return dict(word.split("==") for word in words)

    @property
    def live(self) -> str:
        return os.path.basename(os.readlink(self.site.root / NAME))

    @property
    def added(self) -> list[str]:
        live = builds.live_build(str(self.site.root), NAME)
        assert live is not None and live.record is not None
        lines: list[str] = live.record["added"]
        return lines


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, uv: str) -> Iterator[Machine]:
    if RELEASE is None:
        pytest.skip(f"no release of these tests has a wheel for Python {MINOR}")
    wheels = tmp_path_factory.mktemp("wheels")
    with serve(wheels) as index:
        yield Machine(tmp_path_factory.mktemp("machine"), uv, wheels, index)


def test_what_was_added_is_carried_into_the_build_of_another_lock(machine: Machine) -> None:
    run = machine.play("workstation")
    assert run.code == 0, run.output
    before = machine.live
    machine.install("pandas==2.3.3", "pytz==2026.1")
    machine.relock("1.26.3")
    assert (machine.site.locks / f"tensorflow-{RELEASE}").exists()
    planned = machine.play("plan")
    assert "pandas==2.3.3, pytz==2026.1. The new build has the same versions" in said(planned)
    checked = machine.play("workstation", "--check", "--diff")
    assert checked.code == 0, checked.output
    assert "-numpy==1.26.4 +numpy==1.26.3" in said(checked) and "+pandas" not in said(checked)
    assert machine.live == before and not (machine.site.locks / "added").exists()
    run = machine.play("workstation")
    assert run.code == 0, run.output
    assert {"numpy": "1.26.3", "pandas": "2.3.3", "pytz": "2026.1"}.items() <= machine.versions.items()
    assert machine.added == ["pandas==2.3.3"], "what pandas needs comes with it"
    assert run.report["additions"] == [] and run.report["done"]["dropped"] == []


@pytest.mark.slow
def test_the_next_run_changes_nothing_and_needs_no_index(machine: Machine) -> None:
    run = machine.play("workstation", tensorflow_index_url="http://127.0.0.1:9/simple")
    assert (run.code, run.changed) == (0, {"localhost": 0}), run.output
    assert re.search(r"Build the environment\] \*+ skipping", said(run)), "the plan knows that it is whole"


@pytest.mark.slow
def test_another_controller_takes_the_lock_that_is_in_the_build(machine: Machine) -> None:
    shutil.rmtree(machine.site.locks / "added")
    run = machine.play("workstation", tensorflow_index_url="http://127.0.0.1:9/simple")
    assert (run.code, run.changed) == (0, {"localhost": 0}), run.output
    verified = machine.play("verify")
    assert verified.code == 0, verified.output


@pytest.mark.slow
def test_rollback_goes_back_to_what_was_added_by_hand_and_a_run_forward_again(machine: Machine) -> None:
    carried = machine.live
    run = machine.play("rollback")
    assert run.report["additions"] == ["pandas 2.3.3", "pytz 2026.1"], run.output
    run = machine.play("workstation")
    assert run.code == 0, run.output
    assert (run.report["done"]["action"], machine.live) == ("switch", carried)


@pytest.mark.slow
def test_a_repair_carries_too(machine: Machine) -> None:
    machine.install("scipy==1.14.0")
    (machine.site.root / NAME / "lib" / f"python{MINOR}" / "site-packages" / "numpy" / "__init__.py").unlink()
    verified = machine.play("verify")
    assert "which carries what somebody added to it (scipy 1.14.0) into a new build" in said(verified)
    run = machine.play("workstation", tensorflow_version="current")
    assert run.code == 0, run.output
    assert machine.added == ["pandas==2.3.3", "scipy==1.14.0"]
    assert {"pandas": "2.3.3", "scipy": "1.14.0"}.items() <= machine.versions.items()
    assert machine.play("verify").code == 0


@pytest.mark.slow
def test_a_replaced_package_keeps_its_version_if_tensorflow_takes_it(machine: Machine) -> None:
    machine.relock("1.26.3", "1.26.4")
    assert machine.play("workstation").code == 0 and machine.versions["numpy"] == "1.26.4"
    machine.install("numpy==1.26.3")
    machine.relock("1.26.3", "1.26.5")
    run = machine.play("workstation")
    assert run.code == 0, run.output
    assert (machine.versions["numpy"], machine.added[0]) == ("1.26.3", "numpy==1.26.3")


def test_add(machine: Machine) -> None:
    before, added = machine.live, machine.added
    checked = machine.play("add", "--check", "--diff", tensorflow_packages="scipy >= 1.15")
    assert checked.code == 0 and "+scipy==1.15.0" in said(checked), checked.output
    assert machine.live == before
    run = machine.play("add", "--diff", tensorflow_packages="scipy >= 1.15")
    assert run.code == 0 and "+scipy==1.15.0" in said(run), run.output
    assert machine.added == [*(line for line in added if "scipy" not in line), "scipy>=1.15"]
    assert machine.versions["scipy"] == "1.15.0"
    again = machine.play("add", tensorflow_packages="scipy")
    assert (again.code, again.changed) == (0, {"localhost": 0}), again.output


@pytest.mark.slow
def test_a_run_keeps_what_was_added_also_with_another_lock(machine: Machine) -> None:
    kept = machine.play("workstation")
    assert (kept.code, kept.changed) == (0, {"localhost": 0}), kept.output
    make_tensorflow(machine.wheels, str(RELEASE), "# rebuilt", requires=["numpy<1.27"])
    machine.wheel("scipy", "1.16.0")
    machine.relock("1.26.3", "1.26.5")
    run = machine.play("workstation", tensorflow_additions="stop")
    assert run.code == 0, run.output
    assert run.report["done"]["action"] == "build"
    assert {"scipy": "1.15.0", "pandas": "2.3.3", "numpy": "1.26.3"}.items() <= machine.versions.items()


def test_what_was_added_is_taken_out_again(machine: Machine) -> None:
    names = [line.partition("==")[0] for line in machine.added if not line.startswith("scipy")]
    assert "pandas" in names
    run = machine.play("add", tensorflow_packages_removed=" ".join(names))
    assert run.code == 0, run.output
    assert machine.added == ["scipy>=1.15"]
    assert not {"pandas", "pytz"} & machine.versions.keys()
    unknown = machine.play("add", tensorflow_packages_removed="tensorflow")
    assert unknown.code != 0 and "is not among what make add recorded for" in said(unknown)


REFUSED = {
    "conflict": ("needs-old-numpy", "needs-old-numpy (added to {root})"),
    "unknown": ("nowhere-to-be-found", "nowhere-to-be-found is not on the package index"),
    "url": ("git+https://example.org/x", "must be names of packages"),
    "option": ("--index-url=http://example.org", "must be names of packages"),
    "program": ("$(id)", "must be names of packages"),
    "tensorflow": ("tensorflow-cpu", "an environment has one TensorFlow"),
    "nothing": ("", "There is nothing to add"),
}


def test_what_cannot_be_added_changes_nothing(machine: Machine, tmp_path: Path) -> None:
    """A host for each, and each of them is this machine."""
    before = (machine.live, sorted(machine.site.locks.rglob("*.txt")))
    hosts = {host: {"tensorflow_packages": packages} for host, (packages, _) in REFUSED.items()}
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"vars": LOCAL, "hosts": hosts}}))
    run = machine.play("add", "-i", str(inventory), "--limit", "!localhost")
    assert run.code != 0
    for host, (_, message) in REFUSED.items():
        assert message.format(root=machine.site.root / NAME) in run.errors[host], run.output
    assert (machine.live, sorted(machine.site.locks.rglob("*.txt"))) == before


@pytest.mark.slow
def test_what_no_index_has_stops_the_run_and_is_named(machine: Machine, tmp_path: Path) -> None:
    before = machine.live
    make_wheel(tmp_path, "mine", "0.1", {"mine/__init__.py": ""})
    machine.wheel("mine", "0.1", "namesake = True\n")
    machine.install("--no-deps", tmp_path / "mine-0.1-py3-none-any.whl")
    pth = machine.site.root / NAME / "lib" / f"python{MINOR}" / "site-packages" / "mine.pth"
    pth.write_text("/home/me/project\n")
    machine.relock("1.26.4")
    for playbook in ("plan", "workstation"):
        run = machine.play(playbook)
        assert run.code != 0
        error = run.report["error"] if playbook == "workstation" else run.output
        message = " ".join(error.split())
        assert f"mine 0.1 (from file://{tmp_path}/mine-0.1-py3-none-any.whl; the index's mine may be" in message, (
            message
        )
        assert "mine.pth (no package). Take them out" in message and "set tensorflow_additions to drop." in message
    pth.unlink()
    machine.uninstall("mine")
    assert machine.live == before


def test_a_namesake_on_the_index_is_not_taken(machine: Machine, tmp_path: Path) -> None:
    """As from another index than the one that locks are made of, of which nothing is noted in the environment."""
    before = machine.live
    make_wheel(tmp_path, "mine", "0.1", {"mine/__init__.py": "secret = 1\n"})
    machine.wheel("mine", "0.1", "namesake = True\n")
    machine.relock("1.26.4")
    machine.install("--no-index", "--find-links", tmp_path, "mine")
    site_packages = machine.site.root / NAME / "lib" / f"python{MINOR}" / "site-packages"
    (site_packages / "mine-0.1.dist-info" / "direct_url.json").unlink(missing_ok=True)
    run = machine.play("workstation")
    assert run.code != 0
    message = " ".join(run.report["error"].split())
    assert "mine 0.1 in" in message and "did not come from this package index" in message, message
    assert machine.live == before
    meant = machine.play("add", tensorflow_packages="mine==0.1")
    assert meant.code == 0, meant.output
    assert machine.site.python(NAME, "import mine; print(mine.namesake)").stdout.strip() == "True"


@pytest.mark.slow  # test_additions.py stops before it builds too
def test_stop_names_what_would_be_lost(machine: Machine) -> None:
    before = machine.live
    machine.wheel("by-hand", "1.0")
    machine.install("by-hand")
    machine.relock("1.26.3")
    planned = machine.play("plan", tensorflow_additions="stop")
    assert "by-hand 1.0. The run stops before it builds if the lock that is made first is without them" in said(planned)
    run = machine.play("workstation", tensorflow_additions="stop")
    assert run.code != 0 and machine.live == before
    assert "would be built again and lose what somebody added to it: by-hand 1.0" in " ".join(
        run.report["error"].split()
    )
