"""TensorFlow of the cuda flavour opens its CUDA and cuDNN from its own environment, whoever starts its Python.

Lock, wheels and TensorFlow are real. The driver is a double (tests/doubles/libcuda.c), so that this is seen on
machines without a GPU; that the libraries compute is not. TEST_CUDA_RELEASES="2.8.0 2.21.0" names other releases; the
locks of those that have none shipped are made.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.environment import venv
from ansible.module_utils.tensorflow_stack.environment.installing import Installer
from ansible.module_utils.tensorflow_stack.locking.inputs import LockRequest, lock_inputs
from ansible.module_utils.tensorflow_stack.locking.resolver import resolve_lock
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec
from ansible.module_utils.tensorflow_stack.records.lockfile import read_lock
from ansible.module_utils.tensorflow_stack.tables.load import load_tables
from packaging.version import Version

from tests.needs import python_of, require

pytestmark = [pytest.mark.integration, pytest.mark.slow]

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = REPOSITORY / "roles" / "tensorflow_release" / "files"
RELEASES = os.environ.get("TEST_CUDA_RELEASES", "2.8.0").split()
FREE_GIGABYTES = 12
CUTOFF = "2026-11-22T00:00:00Z"

# Asked for and not needed: TensorRT, the name that libnvrtc has in toolkits, and cuDNN's parts by their full
# version before libcudnn_graph.so.9.
OPTIONAL = re.compile(r"libnvinfer|libnvrtc\.so\Z|libcudnn_\w+\.so\.9\.")
CUDA_LIBRARY = re.compile(r"lib(cu(?!rl)|nccl|nv)")
# What every release asks for.
NEEDED = {"libcuda", "libcudart", "libcublas", "libcublasLt", "libcudnn", "libcufft", "libcusolver", "libcusparse"}

LIST_GPUS = """
import json, tensorflow
details = tensorflow.config.experimental.get_device_details
gpus = [details(gpu)["device_name"] for gpu in tensorflow.config.list_physical_devices("GPU")]
paths = {line.split(None, 5)[5].rstrip() for line in open("/proc/self/maps") if "/" in line}
print(json.dumps({"gpus": gpus, "mapped": sorted(paths)}))
"""

COMPILE_WITH_NVRTC = """
import ctypes, sys
nvrtc = ctypes.CDLL(sys.argv[1])
program = ctypes.c_void_p()
code = b"__global__ void twice(float *x) { x[threadIdx.x] *= 2; }"
assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), code, b"twice.cu", 0, None, None) == 0
status = nvrtc.nvrtcCompileProgram(program, 0, None)
log = ctypes.create_string_buffer(4096)
nvrtc.nvrtcGetProgramLog(program, log)
print(status, log.value.decode())
"""

# The list is a std::vector of strings, whose address goes in where a result of this size is returned. The library that
# has it is another one in some releases.
ASK_WHERE_XLA_LOOKS = """
import ctypes, json, pathlib, tensorflow

from tests.needs import python_of, require
found = []
for library in pathlib.Path(tensorflow.__file__).parent.glob("libtensorflow*.so.2"):
    function = getattr(ctypes.CDLL(str(library)), "_ZN3tsl18CandidateCudaRootsB5cxx11Ev", None)
    if function:
        function.argtypes, vector = [ctypes.c_void_p], (ctypes.c_void_p * 3)()
        function(ctypes.addressof(vector))
        found = [ctypes.string_at(ctypes.c_void_p.from_address(at).value) for at in range(vector[0], vector[1], 32)]
print(json.dumps([root.decode() for root in found]))
"""

RunModule = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Environment:
    """`arguments` are those of tensorflow_venv."""

    release: str
    arguments: dict[str, Any]

    @property
    def path(self) -> Path:
        return Path(self.arguments["root"], self.arguments["name"])

    @property
    def build(self) -> Path:
        return self.path.resolve()

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    def libraries(self, pattern: str) -> list[Path]:
        """In TensorFlow's own directory where it has links, else in those of the wheels."""
        site_packages = next(self.build.glob("lib/python3.*/site-packages"))
        below = "tensorflow" if self.arguments["library_directories"] else "nvidia/*/lib"
        return sorted(site_packages.glob(f"{below}/{pattern}"))


@pytest.fixture(scope="module", params=RELEASES)
def environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, uv: str
) -> Iterator[Environment]:
    """Built for the newest Python that the release and this machine have."""
    root = tmp_path_factory.mktemp("root")
    free = shutil.disk_usage(root).free / 10**9
    if free < FREE_GIGABYTES:
        pytest.skip(f"needs {FREE_GIGABYTES} GB below {root}, {free:.1f} GB are free")
    tables = load_tables(str(FILES / "tables"))
    row, release = tables.cuda_wheels_for(request.param), tables.release(request.param)
    assert row is not None and release is not None
    minors = release.pythons[platform.machine()]
    python = python_of(*minors)
    wish = LockRequest(request.param, python.minor, f"linux_{platform.machine()}", "cuda")
    lock = resolve_lock(
        lock_inputs(wish, tables),
        uv=lambda: uv,
        cutoff=CUTOFF,
        previous=read_lock(wish.path_in(str(FILES / "locks"))),
    )
    spec = EnvironmentSpec(
        name=f"tensorflow-{request.param}",
        root=str(root),
        release=request.param,
        flavour="cuda",
        python=python.path,
        lock=lock,
        cuda={"version": row.cuda, "source": "wheels"},
        cudnn={"version": row.cudnn, "source": "wheels"},
        library_directories=("nvidia/*/lib",) if row.link else (),
    )
    installer = Installer(uv=uv, cache=str(root / ".cache" / "uv"))
    venv.apply_present(spec, installer=lambda: installer, keep=1, lock_timeout=0)
    arguments = {key: getattr(spec, key) for key in ("name", "root", "python", "cuda", "cudnn")}
    arguments.update(lock=lock.text, library_directories=list(spec.library_directories))
    yield Environment(request.param, arguments)
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with the double of the driver's libraries and nothing else."""
    require("gcc", "libc6-dev")
    directory = tmp_path_factory.mktemp("driver")
    source = REPOSITORY / "tests" / "doubles" / "libcuda.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", directory / "libcuda.so.1", source], check=True)
    shutil.copy(directory / "libcuda.so.1", directory / "libnvidia-ml.so.1")
    return directory


@pytest.fixture(params=["command", "script"])
def started(request: pytest.FixtureRequest, environment: Environment, tmp_path: Path) -> list[str]:
    if request.param == "command":
        return [str(environment.python), "-c", LIST_GPUS]
    script = tmp_path / "list_gpus"
    script.write_text(f"#!{environment.python}\n{LIST_GPUS}")
    script.chmod(0o755)
    return [str(script)]


def test_every_library_comes_from_the_environment(
    environment: Environment, driver: Path, started: list[str], tmp_path: Path
) -> None:
    # TensorFlow 2.12 and newer do not say what they miss; the loader does.
    variables = {"LD_LIBRARY_PATH": str(driver), "LD_DEBUG": "libs", "LD_DEBUG_OUTPUT": str(tmp_path / "loader")}
    done = subprocess.run(started, env=variables, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    loader = "".join(path.read_text() for path in tmp_path.glob("loader.*"))
    asked = set(re.findall(r"find library=(\S+)", loader))
    found = {os.path.basename(path) for path in re.findall(r"calling init: (\S+)", loader)}
    needed = {name for name in asked if not OPTIONAL.match(name)}
    cuda = sorted(filter(CUDA_LIBRARY.match, needed))
    print(f"{environment.release}: {len(found.intersection(cuda))} of {len(cuda)}: {' '.join(cuda)}; {said['gpus']}")

    assert said["gpus"] == ["test double"], done.stderr
    assert {name.partition(".so")[0] for name in asked} >= NEEDED
    assert needed - found == set()
    mapped = [path for path in said["mapped"] if CUDA_LIBRARY.match(os.path.basename(path))]
    assert [path for path in mapped if not path.startswith((f"{environment.build}/", f"{driver}/"))] == []


def test_nvrtc_compiles(environment: Environment) -> None:
    """It opens its built-ins beside itself: where it is linked, they have to be linked too."""
    if "nvidia-cuda-nvrtc-" not in environment.arguments["lock"]:
        pytest.skip(f"TensorFlow {environment.release} asks for no wheel of NVRTC")
    libraries = environment.libraries("libnvrtc.so.*")
    assert len(libraries) == 1
    done = subprocess.run(
        [environment.python, "-c", COMPILE_WITH_NVRTC, *libraries], env={}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "0", done.stdout + done.stderr


def test_xla_finds_libdevice(environment: Environment) -> None:
    """From 2.14 on; older ones look in /usr/local/cuda, and from the working directory on, alone."""
    if Version(environment.release) < Version("2.14"):
        pytest.skip(f"TensorFlow {environment.release} looks for libdevice nowhere in its environment")
    done = subprocess.run([environment.python, "-c", ASK_WHERE_XLA_LOOKS], env={}, capture_output=True, text=True)
    roots = [Path(root).resolve() for root in json.loads(done.stdout)]
    inside = [root for root in roots if root.is_relative_to(environment.build)]
    assert any((root / "nvvm" / "libdevice" / "libdevice.10.bc").is_file() for root in inside), roots
    assert any(os.access(root / "bin" / "ptxas", os.X_OK) for root in inside), roots


def test_a_second_run_keeps_it(environment: Environment, run_module: RunModule) -> None:
    result = run_module("tensorflow_venv", **environment.arguments)
    assert not result.get("failed"), result
    assert (result["action"], result["changed"], result["damage"]) == ("keep", False, [])


def test_the_check_does_not_take_the_double_for_a_gpu(
    environment: Environment, driver: Path, run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver))
    result = run_module(
        "tensorflow_gpu_check", environment=str(environment.path), release=environment.release, expect_gpu=True
    )
    assert result["failed"]
    assert result["verdict"] == "driver_failed", result["reason"]
    rows = {row["name"]: row for row in result["report"]["libraries"] if row["name"] != "libcuda.so.1"}
    assert {row["error"] for row in rows.values()} == {None}
    assert Version(rows[next(name for name in rows if "cudnn" in name)]["version"]) >= Version("8")
    paths = [library["path"] for library in result["report"]["libraries_mapped"]]
    assert {os.path.basename(path).partition(".so")[0] for path in paths} >= NEEDED
    assert [path for path in paths if not path.startswith((f"{environment.build}/", f"{driver}/"))] == []
