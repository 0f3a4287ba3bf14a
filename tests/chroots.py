"""Private roots of real distributions, made by mmdebstrap once and laid under an overlay for each test."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible

REPOSITORY = Path(__file__).resolve().parent.parent
BASES = REPOSITORY / ".cache" / "chroots"
# Of a machine on which nothing of this project ever ran.
FRESH = ["python3", "git", "make", "ca-certificates"]
PACKAGES = {
    "bookworm": FRESH,
    "bullseye": ["python3"],
    "trixie": ["python3"],
    "el": ["python3", "dnf", "rpm", "dnf-plugins-core"],  # dnf and rpm of Debian, on a root of Debian's
    "fresh-trixie": FRESH,
}
SUITES = {"el": "bookworm", "fresh-trixie": "trixie"}

COMPILED = "import sys; sys.path.insert(0, '/opt/payload'); import ansible.modules.nvidia_packages"
RUNNER = """
import importlib, json, sys
sys.path.insert(0, "/opt/payload")
from ansible.module_utils import basic

arguments = json.load(sys.stdin)
module = importlib.import_module("ansible.modules." + sys.argv[1])
try:
    from ansible.module_utils.testing import patch_module_args  # since ansible-core 2.19
except ImportError:
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
    module.main()
else:
    with patch_module_args(arguments):
        module.main()
"""


def base(name: str) -> Path:
    """The root that tests build on; about half a minute the first time."""
    path = BASES / name
    if not path.exists():
        BASES.mkdir(parents=True, exist_ok=True)
        fresh = BASES / f"{name}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        include = ",".join(PACKAGES[name])
        command = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={include}", '--aptopt=Acquire::Retries "5"']
        command += [SUITES.get(name, name), str(fresh)]
        subprocess.run(command, check=True)
        fresh.rename(path)
    return path


def lay_payload(directory: Path) -> None:
    """What Ansible copies to a node for our modules: its module_utils, ours and the modules."""
    core = Path(ansible.__file__).parent
    ignore = shutil.ignore_patterns("__pycache__", "*.ps1", "*.psm1", "*.cs")
    for source, target in (
        (core / "module_utils", "module_utils"),
        (REPOSITORY / "module_utils", "module_utils"),
        (REPOSITORY / "library", "modules"),
    ):
        shutil.copytree(source, directory / "ansible" / target, ignore=ignore, dirs_exist_ok=True)
    for package in ("ansible", "ansible/modules"):
        (directory / package / "__init__.py").touch()


@dataclass(frozen=True)
class Chroot:
    """`within` is what its programs are started by, such as unshare."""

    path: Path
    within: tuple[str, ...] = ()

    def start(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
        return subprocess.Popen(
            [*self.within, "chroot", str(self.path), *argv],
            env={**environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **options,
        )

    def run(self, *argv: str, stdin: str = "", check: bool = True) -> str:
        process = self.start(*argv)
        said, _ = process.communicate(stdin)
        assert process.returncode == 0 or not check, f"{argv} returned {process.returncode}: {said}"
        return said

    def start_module(self, name: str, *, check: bool = False, **arguments: Any) -> subprocess.Popen[str]:
        process = self.start("python3", "-c", RUNNER, name)
        internal = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": "/tmp"}
        assert process.stdin is not None
        process.stdin.write(json.dumps({**arguments, **internal}))
        process.stdin.close()
        process.stdin = None
        return process

    def module(self, name: str, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        said = self.start_module(name, check=check, **arguments).communicate()[0]
        lines = [line for line in said.splitlines() if line.startswith("{")]
        assert lines, said
        result: dict[str, Any] = json.loads(lines[-1])
        return result

    def write(self, path: str, text: str) -> None:
        place = self.path / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def read(self, path: str) -> str:
        return (self.path / path.lstrip("/")).read_text()

    def processes(self) -> list[Path]:
        """Those that run in this root, as /proc has them."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(process / "root") == str(self.path):
                    found.append(process)
        return found

    def commands(self) -> set[str]:
        names = set()
        for process in self.processes():
            with contextlib.suppress(OSError):
                names.add((process / "comm").read_text().strip())
        return names

    def kill_all(self) -> None:
        """As a power loss does; children that are started meanwhile go as well."""
        while self.processes():
            for process in self.processes():
                with contextlib.suppress(OSError):
                    os.kill(int(process.name), signal.SIGKILL)
            time.sleep(0.01)

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.path / path.lstrip("/"))


@functools.cache
def layer(name: str) -> tempfile.TemporaryDirectory[str]:
    """What is added to a base: the payload, compiled by its Python. Made once in this process, for all tests."""
    place = tempfile.TemporaryDirectory(prefix=f"layer-{name}-")
    upper, work, path = (Path(place.name) / part for part in ("upper", "work", "root"))
    for part in (upper, work, path):
        part.mkdir()
    if _mount(str(base(name)), upper, work, path):
        try:
            _prepare(path)
        finally:
            subprocess.run(["umount", path], check=True)
    return place


def _mount(lower: str, upper: Path, work: Path, path: Path) -> bool:
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    mounted = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, path], capture_output=True)
    return mounted.returncode == 0


def _prepare(path: Path) -> None:
    lay_payload(path / "opt" / "payload")
    subprocess.run(["chroot", path, "python3", "-c", COMPILED], check=True)


@contextlib.contextmanager
def chroot(name: str, directory: Path) -> Iterator[Chroot]:
    """A root of its own; what is written to it is gone with the directory."""
    upper, work, path = (directory / part for part in ("upper", "work", "root"))
    for part in (upper, work, path):
        part.mkdir(parents=True)
    mounted = _mount(f"{layer(name).name}/upper:{base(name)}", upper, work, path)
    if not mounted:  # on a machine whose own root is an overlay
        path.rmdir()
        subprocess.run(["cp", "--archive", "--reflink=auto", base(name), path], check=True)
        _prepare(path)
    subprocess.run(["mount", "-t", "proc", "proc", path / "proc"], check=True)
    root = Chroot(path)
    root.write("/etc/apt/sources.list", "")
    if name == "el":  # as on such a node: dnf is all there is
        for tool in ("apt-get", "apt-cache", "dpkg", "dpkg-query"):
            (path / "usr" / "bin" / tool).unlink()
    root.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
    (path / "usr/sbin/policy-rc.d").chmod(0o755)
    try:
        yield root
    finally:
        root.kill_all()
        subprocess.run(["umount", "--lazy", path / "proc"], check=True)
        if mounted:
            subprocess.run(["umount", "--lazy", path], check=True)
        for part in (upper, work, path):
            shutil.rmtree(part, ignore_errors=True)
