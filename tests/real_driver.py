"""Nodes with NVIDIA's real libraries of one driver branch, as Debian packages them, and no GPU.

apt fetches them at test time into a private root. What the kernel would say of the driver is written there: in the
root's own /sys, on a file system of its own over /proc/driver, and by a double of the module, preloaded. The real
libcuda and nvidia-smi make device files; those are the root's own.
"""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.tables.load import load_tables

from tests import nodes
from tests.chroots import REPOSITORY, Chroot, base, chroot
from tests.hosts.stand_ins import NVRM
from tests.needs import APT, require, unavailable

TABLES = load_tables(str(REPOSITORY / "roles" / "tensorflow_release" / "files" / "tables"))
DIAGNOSES = [row._asdict() for row in TABLES.diagnoses]

ENVIRONMENT = "/opt/tensorflow/tensorflow-2.8.0"
A100 = {"pci": {"0000:04:00.0": {"vendor": "10de", "device": "20f1", "pci_class": "030200", "driver": "nvidia"}}}
GPU_NODE = "/dev/nvidia0"
LIBRARIES = "usr/lib/x86_64-linux-gnu"


@dataclass(frozen=True)
class Parts:
    """A branch of the driver, the suite of Debian that has it, and the CUDA that its libcuda says it is for."""

    branch: str
    suite: str
    cuda: str
    packages: tuple[str, ...] = ("libcuda1", "libnvidia-ml1", "nvidia-smi")
    unlinked: str | None = None  # the directory of libraries that Debian ships, and no longer links for the loader


class Node:
    """A root with the parts installed, an A100 on its bus and an environment without TensorFlow."""

    def __init__(self, root: Chroot, parts: Parts) -> None:
        self.root, self.parts = root, parts
        self.module = root.module
        self.installed: str = self.record()["driver"]["installed"]
        assert self.installed.startswith(f"{parts.branch}.")

    def record(self) -> dict[str, Any]:
        node: dict[str, Any] = self.module("gpu_node_info")["node"]
        return node

    def load(self, version: str, *, kind: str = "proprietary", uvm: bool = True, answers: bool = True) -> None:
        """The module of that version; one that does not answer is told of by the kernel's files alone."""
        self.unload()
        self.root.write("/sys/module/nvidia/version", f"{version}\n")
        self.root.write("/sys/module/nvidia/initstate", "live\n")
        self.root.write("/proc/driver/nvidia/version", NVRM[kind].format(version=version))
        if uvm:
            self.root.write("/sys/module/nvidia_uvm/refcnt", "0\n")
        if answers:
            self.root.write("/etc/ld.so.preload", "/usr/local/lib/nvidia_module.so\n")

    def unload(self) -> None:
        for path in ("sys/module/nvidia", "sys/module/nvidia_uvm", "proc/driver/nvidia"):
            shutil.rmtree(self.root.path / path, ignore_errors=True)
        (self.root.path / "etc/ld.so.preload").unlink(missing_ok=True)

    @contextlib.contextmanager
    def without(self, library: str) -> Iterator[None]:
        """The library's file is gone, and nothing that leads to it."""
        paths = [path for path in (self.root.path / LIBRARIES / "nvidia").glob(f"*/{library}.so.*.*") if path.is_file()]
        hidden = [(path.rename(self.root.path / "root" / path.name), path) for path in paths]
        assert hidden
        try:
            yield
        finally:
            for away, path in hidden:
                away.rename(path)

    def check(self, **arguments: Any) -> dict[str, Any]:
        wish = {"release": "2.8.0", "expect_gpu": True, "gpu_count": 1, "evidence": {}, "level": "libraries"}
        return self.module("tensorflow_gpu_check", environment=ENVIRONMENT, **{**wish, **arguments})

    def causes(self, **arguments: Any) -> list[str]:
        """What the doctor says of the node, of a Python (`python`) or of a log (`text`)."""
        examination = self.module("tensorflow_doctor", diagnoses=DIAGNOSES, **arguments)
        assert not examination.get("failed"), examination
        return [cause["cause"] for cause in examination["causes"]]

    def nvidia_smi(self, *options: str) -> tuple[int, str]:
        process = self.root.start("nvidia-smi", *options)
        said, _ = process.communicate()
        return process.returncode, said

    def run_python(self, program: str, *arguments: str) -> Any:
        """What the program prints, as JSON."""
        return json.loads(self.root.run("python3", "-c", program, *arguments))


@contextlib.contextmanager
def real_driver(parts: Parts, directory: Path) -> Iterator[Node]:
    if platform.machine() != "x86_64":
        unavailable("Debian's packages of these drivers are for x86_64")
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has the module itself, which would answer instead of its double")
    require("gcc", "libc6-dev", "mmdebstrap", root=True)
    with chroot(parts.suite, directory) as root, _own_proc_driver(root):
        _install(root, parts)
        nodes.build(A100, root.path)
        kernel = platform.release()
        root.write(f"/usr/src/linux-headers-{kernel}/Makefile", "")
        root.run("python3", "-m", "venv", "--without-pip", ENVIRONMENT)
        double = root.path / "usr/local/lib/nvidia_module.so"
        source = REPOSITORY / "tests" / "doubles" / "nvidia_module.c"
        subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", double, source], check=True)
        yield Node(root, parts)


def _install(root: Chroot, parts: Parts) -> None:
    sources = (base(parts.suite) / "etc/apt/sources.list").read_text()
    root.write("/etc/apt/sources.list", sources.replace(" main", " main contrib non-free"))
    # A newer branch may come with the suite's security updates.
    pin = f"Package: *nvidia* libcuda1\nPin: version {parts.branch}.*\nPin-Priority: 1001\n"
    root.write("/etc/apt/preferences.d/driver", pin)
    try:
        root.run(*APT, "--error-on=any", "update")
    except AssertionError as error:
        unavailable(f"Debian's archive is not reached: {str(error)[-300:]}")
    # Without what is recommended, which is the module: it needs a kernel.
    root.run(*APT, "install", "-y", "--no-install-recommends", *parts.packages)
    if parts.unlinked:
        root.write("/etc/ld.so.conf.d/00-driver.conf", f"/{LIBRARIES}/nvidia/{parts.unlinked}\n")
        root.run("ldconfig")
        root.run("ln", "-sf", f"/usr/lib/nvidia/{parts.unlinked}/nvidia-smi", "/usr/bin/nvidia-smi")


@contextlib.contextmanager
def _own_proc_driver(root: Chroot) -> Iterator[None]:
    place = root.path / "proc" / "driver"
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
