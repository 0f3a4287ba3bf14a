"""The commands of the pages on a machine that has Python, git, make and certificates, and nothing else.

In CI a user plans once, which installs the tools; nightly, root and a user on both distributions plan, build and run
`make test` there. The checkout is a clone of this one: what is not committed is not in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests import page_commands
from tests.chroots import REPOSITORY, Chroot, chroot
from tests.needs import require, unavailable

pytestmark = pytest.mark.integration

USER = "ann"
# The newest release that the distribution's own Python can run.
RELEASES = {"bookworm": "2.15.1", "fresh-trixie": "2.21.0"}
PAGE_OF_A_PROJECT = REPOSITORY / "docs" / "project.md"
# In the order of a reader.
PAGES = (
    *("README.md", "docs/workstation.md", "docs/project.md", "docs/commands.md", "docs/fleet.md"),
    *("docs/troubleshooting.md", "docs/operations.md", "roles/tensorflow_lock/README.md", "CONTRIBUTING.md"),
)
FINDING_A_FAULT = ("make doctor LOG=failed.log", "make doctor PYTHON_PATH=/home/me/venv/bin/python")
# How this machine reaches the package registries; none of it is there on most.
REGISTRY_FILES = ("/etc/resolv.conf", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
REGISTRY_VARIABLES = ("PIP_CERT", "PIP_INDEX", "UV_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
# What is mounted and started inside goes with them.
OWN_NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
INSIDE = """
mount -t proc proc "$ROOT/proc"
mount --rbind /sys "$ROOT/sys"
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs tmpfs "$ROOT/run"
root=$ROOT user=$AS
unset ROOT AS
exec chroot --userspec="$user" "$root" sh -c 'cd ~/project && exec "$@"' sh "$@"
"""


class Machine:
    """A fresh one with a clone of this checkout in the user's home."""

    def __init__(self, root: Chroot, base: str, user: str) -> None:
        self._root, self.user, self.release = root, user, RELEASES[base]
        self.home = "/root" if user == "root" else f"/home/{user}"
        for name in [*REGISTRY_FILES, *map(str, Path("/etc/apt/apt.conf.d").glob("99*"))]:
            if os.path.exists(name):
                shutil.copy(name, root.path / name.lstrip("/"))
        # The kit leaves none: its tests name their own.
        suite = base.removeprefix("fresh-")
        root.write("/etc/apt/sources.list", f"deb http://deb.debian.org/debian {suite} main\n")
        if user != "root":
            # The smallest Debian 13 has no useradd.
            root.write("/etc/passwd", f"{root.read('/etc/passwd')}{user}:x:1000:1000::{self.home}:/bin/bash\n")
            root.write("/etc/group", f"{root.read('/etc/group')}{user}:x:1000:\n")
            (root.path / self.home.lstrip("/")).mkdir(parents=True)
        clone = root.path / self.home.lstrip("/") / "project"
        subprocess.run(["git", "clone", "--quiet", REPOSITORY.as_uri(), clone], check=True)
        root.run("chown", "-R", f"{user}:", self.home)

    def make(self, *words: str) -> str:
        """What make said; it has to end well."""
        return self.run("make", *words)

    def run(self, *words: str, code: int = 0) -> str:
        """What a program said, started in the checkout."""
        given = {name: value for name, value in os.environ.items() if name.startswith(REGISTRY_VARIABLES)}
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": self.home, **given}
        done = subprocess.run(
            [*OWN_NAMESPACES, "bash", "-ec", INSIDE, "bash", *words],
            env={**environ, "ROOT": str(self._root.path), "AS": self.user},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == code, f"{' '.join(words)} ended with {done.returncode}\n{done.stdout[-6000:]}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """A file of the checkout, or one with an absolute path."""
        self._root.write(os.path.join(self.home, "project", path), text)


@pytest.fixture(
    params=[
        pytest.param(("bookworm", USER), id="bookworm-user"),
        pytest.param(("bookworm", "root"), id="bookworm-root", marks=pytest.mark.slow),
        pytest.param(("fresh-trixie", USER), id="trixie-user", marks=pytest.mark.slow),
        pytest.param(("fresh-trixie", "root"), id="trixie-root", marks=pytest.mark.slow),
    ]
)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    require("mmdebstrap", "debian-archive-keyring", root=True)
    if subprocess.run([*OWN_NAMESPACES, "true"], stderr=subprocess.DEVNULL).returncode:
        unavailable("namespaces for a machine cannot be made here, as in a chroot")
    base, user = request.param
    with chroot(base, tmp_path / "machine") as root:
        yield Machine(root, base, user)


def test_the_first_command_of_the_readme(machine: Machine) -> None:
    planned = machine.make("plan", f"TENSORFLOW={machine.release}")
    assert f"TensorFlow {machine.release} (cpu) at " in planned


@pytest.mark.slow  # fetches and compiles a release; test_classic_cases.py has the same run outside of a fresh machine
def test_the_readme(machine: Machine) -> None:
    said = "".join(machine.run("bash", "-c", command) for command in page_commands.commands("README.md"))
    if machine.user == "root" and machine.release == RELEASES["bookworm"]:
        assert [line for line in transcript() if line not in said] == []
    again = machine.run("bash", "-c", page_commands.commands("README.md")[-1])
    assert "changed=0 " in again, again


def transcript() -> list[str]:
    """What the README says that it prints, but for times and what it shortens."""
    shown = next(block for block in page_commands.blocks([REPOSITORY / "README.md"]) if not block.is_commands)
    return [line for line in shown.text.splitlines() if not line.startswith("[") and " .../" not in line]


@pytest.mark.slow  # builds a release four times
@pytest.mark.parametrize("machine", [pytest.param(("bookworm", "root"), id="bookworm-root")], indirect=True)
def test_every_command_of_the_pages(machine: Machine) -> None:
    """As it is written, but for a release and paths that this machine does not have."""
    project = f"{machine.home}/project"
    (requirements,) = [block.text for block in page_commands.blocks([PAGE_OF_A_PROJECT]) if block.language == "text"]
    machine.write("requirements.txt", requirements)
    machine.write(
        "failed.log", "ImportError: libcudnn.so.8: cannot open shared object file: No such file or directory\n"
    )
    fleet = "all: {hosts: {localhost: {ansible_connection: local, tensorflow_version: 2.20.0}}}\n"
    machine.write("/srv/my_fleet/hosts.yml", fleet)
    machine.write("hosts.yml", fleet)
    machine.run("python3", "-m", "venv", "--without-pip", "/home/me/venv")
    rows = yaml.safe_load((REPOSITORY / "tests" / "data" / "page_commands.yml").read_text(encoding="utf-8"))["rows"]
    ours = {row["command"] for row in rows if row.get("by") == "tests/integration/test_fresh_machine.py"}
    for page in PAGES:
        for command in page_commands.commands(page):
            if command in ours:
                here = command.replace("2.8.0", "2.20.0").replace("/srv/tensorflow-gpu-stack", project)
                machine.run("bash", "-c", here, code=2 if command in FINDING_A_FAULT else 0)
                ours.discard(command)
    assert ours == set()


@pytest.mark.slow
def test_the_test_command_of_the_readme(machine: Machine) -> None:
    said = machine.make("test")
    assert " failed" not in said
    print("\n".join(line for line in said.splitlines() if " passed" in line or line.startswith("SKIPPED")))
