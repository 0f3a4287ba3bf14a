"""The real TensorFlow on NVIDIA's real driver libraries, and on the stub that its CUDA brings for linking."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from ansible.module_utils.tensorflow_stack.io.uv import uv_environment

from tests.chroots import REPOSITORY
from tests.needs import require
from tests.real_driver import ENVIRONMENT, GPU_NODE, Node, Parts, real_driver

pytestmark = [pytest.mark.integration, pytest.mark.slow]

LOCK = REPOSITORY / "roles/tensorflow_release/files/locks/tensorflow-2.8.0/cp39-linux_x86_64-cpu.txt"
STUBS = "/srv/stubs"
FETCH_STUBS = f"""
mkdir {STUBS} && cd {STUBS}
apt-get -q -o Acquire::Retries=5 download nvidia-cuda-dev
dpkg --fsys-tarfile nvidia-cuda-dev_*.deb | tar -x --strip-components=5 --wildcards '*/stubs/*'
rm nvidia-cuda-dev_*.deb
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, uv: str) -> Iterator[Node]:
    """Debian 11: its own Python is the 3.9 that TensorFlow 2.8 has wheels for."""
    require("mmdebstrap", root=True)
    with real_driver(Parts("470", "bullseye", "11.4"), tmp_path_factory.mktemp("470") / "node") as node:
        packages = node.root.path / f"{ENVIRONMENT}/lib/python3.9/site-packages".lstrip("/")
        install = [uv, "pip", "install", "-q", "--no-deps", "--require-hashes", "-r", LOCK, "--target", packages]
        target = ["--python-version", "3.9", "--python-platform", "x86_64-manylinux_2_28"]
        subprocess.run([*install, *target], env=uv_environment(), check=True)
        yield node


@pytest.fixture(autouse=True)
def fresh(node: Node) -> None:
    node.unload()
    (node.root.path / GPU_NODE.lstrip("/")).unlink(missing_ok=True)


def told(node: Node) -> tuple[str, str, str, list[str]]:
    """Verdict, reason and log of the whole check, and the causes that the doctor names."""
    result = node.check(level="full")
    return result["verdict"], result["reason"], "\n".join(result["stderr_tail"]), node.causes(python=ENVIRONMENT)


def test_not_loaded(node: Node) -> None:
    verdict, reason, log, causes = told(node)
    assert verdict == "driver_failed"
    assert "no kernel module nvidia is loaded" in reason and "TensorFlow lists 0 of 1 expected GPUs" in reason
    assert "kernel driver does not appear to be running on this host" in log
    assert causes[0] == "driver_not_loaded"


def test_of_another_version(node: Node) -> None:
    node.load("367.48")
    node.root.run("mknod", GPU_NODE, "c", "195", "0")
    verdict, _, log, causes = told(node)
    assert verdict == "driver_mismatch"
    assert f"kernel version 367.48.0 does not match DSO version {node.installed.replace('.0', '.')}" in log
    assert causes[0] == "driver_mismatch"


def test_libcuda_is_missing(node: Node) -> None:
    node.load(node.installed)
    with node.without("libcuda"):
        verdict, _, log, causes = told(node)
    assert verdict == "driver_missing"
    assert "Could not load dynamic library 'libcuda.so.1'" in log
    assert causes[0] == "driver_not_installed"


def test_nvidia_uvm_is_not_loaded(node: Node) -> None:
    node.load(node.installed, uvm=False)
    verdict, _, log, causes = told(node)
    assert verdict == "driver_failed"
    assert "failed call to cuInit: CUDA_ERROR_UNKNOWN: unknown error" in log
    assert causes[0] == "cuda_unknown_error"


def test_without_a_device(node: Node) -> None:
    node.load(node.installed)
    verdict, _, log, causes = told(node)
    assert verdict == "gpu_missing"
    assert "failed call to cuInit: CUDA_ERROR_NO_DEVICE" in log
    assert f"no NVIDIA GPU device is present: {GPU_NODE} does not exist" in log
    assert "driver_mismatch" not in causes


def test_the_stub_of_cuda_comes_first(node: Node) -> None:
    """Half a gigabyte of Debian's is fetched for a file of fifty kilobytes."""
    node.load(node.installed)
    node.root.run("sh", "-ec", FETCH_STUBS)
    for name in ("libcuda.so", "libnvidia-ml.so"):
        node.root.run("ln", "-s", name, f"{STUBS}/{name}.1")
    configuration = "/etc/ld.so.conf.d/00-stubs.conf"
    node.root.write(configuration, f"{STUBS}\n")
    node.root.run("ldconfig")
    try:
        verdict, reason, log, causes = told(node)
        _, said = node.nvidia_smi()
        of_nvidia_smi = node.causes(text=said)
    finally:
        node.root.run("rm", configuration)
        node.root.run("ldconfig")
    assert verdict == "driver_failed"
    assert "cuInit answers 34" in reason
    assert "failed call to cuInit: UNKNOWN ERROR (34)" in log
    assert causes[0] == of_nvidia_smi[0] == "stub_libcuda"
