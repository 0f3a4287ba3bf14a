"""Builds a release of the flavour cuda from its lock, and opens every library of CUDA and cuDNN in it.

The driver is the double of tests/doubles, so this needs no GPU and shows no computing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "module_utils"))

from tensorflow_stack.environment import venv  # noqa: E402  # found by the line above
from tensorflow_stack.environment.installing import Installer  # noqa: E402
from tensorflow_stack.errors import StackError  # noqa: E402
from tensorflow_stack.node.record import read_node  # noqa: E402
from tensorflow_stack.records.environment import EnvironmentSpec  # noqa: E402
from tensorflow_stack.records.lockfile import Lock  # noqa: E402
from tensorflow_stack.tables.load import Tables  # noqa: E402

# TensorFlow opens what it needs for a list of GPUs; the others are opened one by one, from its environment.
_OPEN = """
import ctypes, json, sys, tensorflow
details = tensorflow.config.experimental.get_device_details
gpus = [details(gpu)["device_name"] for gpu in tensorflow.config.list_physical_devices("GPU")]
for path in sys.argv[1:]:
    ctypes.CDLL(path)
paths = {line.split(None, 5)[5].rstrip() for line in open("/proc/self/maps") if "/" in line}
print(json.dumps({"gpus": gpus, "mapped": sorted(paths)}))
"""


def open_libraries(tables: Tables, lock: Lock, uv: str, directory: str) -> list[str]:
    """The names of the libraries that were opened, each from the environment; raises StackError."""
    spec = _spec(tables, lock, directory)
    installer = Installer(uv=uv, cache=os.path.join(directory, ".cache", "uv"))
    venv.apply_present(spec, installer=lambda: installer, keep=1, lock_timeout=0)
    build = os.path.realpath(spec.path)
    names = [*tables.opened_by(lock.release, "cuda"), *tables.opened_by(lock.release, "cudnn")]
    wanted = sorted(name for name in names if ".so" in name)
    site_packages = next(Path(build).glob("lib/python3.*/site-packages"))
    below = "tensorflow" if spec.library_directories else "nvidia/*/lib"
    paths = {path.name: str(path) for path in site_packages.glob(f"{below}/lib*.so*")}
    missing = [name for name in wanted if name not in paths]
    if missing:
        raise StackError(f"{', '.join(missing)} of TensorFlow {lock.release} are not in its environment.")
    driver = _make_driver(Path(directory, "driver"))
    command = [os.path.join(build, "bin", "python"), "-I", "-c", _OPEN, *(paths[name] for name in wanted)]
    variables = {"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(driver), "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(command, env=variables, cwd="/", capture_output=True, text=True)
    if done.returncode:
        raise StackError(f"TensorFlow {lock.release} opens not every library: {done.stderr[-2000:]}")
    said = json.loads(done.stdout.splitlines()[-1])
    if said["gpus"] != ["test double"]:
        raise StackError(f"TensorFlow {lock.release} lists the GPUs {said['gpus']}: {done.stderr[-2000:]}")
    mapped = {path for path in said["mapped"] if re.match(r"lib(cu(?!rl)|nccl|nv)", os.path.basename(path))}
    foreign = sorted(path for path in mapped if not path.startswith((f"{build}/", f"{driver}/")))
    if foreign:
        raise StackError(f"TensorFlow {lock.release} opened libraries of the machine: {', '.join(foreign)}")
    return wanted


def _spec(tables: Tables, lock: Lock, directory: str) -> EnvironmentSpec:
    wheels = tables.cuda_wheels_for(lock.release)
    pythons = [row["path"] for row in read_node()["pythons"] if row["minor"] == lock.python]
    if wheels is None or not pythons:
        raise StackError(f"There are no CUDA wheels for TensorFlow {lock.release}, or no Python {lock.python} here.")
    return EnvironmentSpec(
        name=f"tensorflow-{lock.release}",
        root=directory,
        release=lock.release,
        flavour="cuda",
        python=pythons[0],
        lock=lock,
        cuda={"version": wheels.cuda, "source": "wheels"},
        cudnn={"version": wheels.cudnn, "source": "wheels"},
        library_directories=("nvidia/*/lib",) if wheels.link else (),
    )


def _make_driver(directory: Path) -> Path:
    directory.mkdir()
    source = REPOSITORY / "tests" / "doubles" / "libcuda.c"
    library = directory / "libcuda.so.1"
    subprocess.run(["gcc", "-w", "-shared", "-fPIC", "-o", library, source], check=True)
    shutil.copy(library, directory / "libnvidia-ml.so.1")
    return directory
