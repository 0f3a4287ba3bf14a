#!/usr/bin/env python3
"""Show a finding of docs/findings.md again, on this machine.

    make finding NAME=pins       releases that install, that pip check finds nothing wrong with, and that fail
    make finding NAME=double     what common checks of a GPU say of one that computes nothing
    make finding NAME=ptx        what the kernels in the wheels are, and which GPUs cannot run them
    make finding NAME=start      seconds until TensorFlow computes, at the first and at the second start; needs a GPU

Installs into a temporary directory, which is removed. Ends with 1 if what the page says was not seen.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "module_utils")]

from tensorflow_stack.check import probe  # noqa: E402  # found by the line above
from tensorflow_stack.io.uv import ensure_uv, uv_environment  # noqa: E402
from tensorflow_stack.node.pythons import find_pythons  # noqa: E402
from tensorflow_stack.tables.load import load_tables  # noqa: E402

TABLES = load_tables(str(REPOSITORY / "roles" / "tensorflow_release" / "files" / "tables"))
# Release and the program that meets what is wrong with it: one that somebody may well begin with.
PINS = [
    ("2.6.0", "3.9", "import tensorflow; tensorflow.keras.layers.Dense"),  # fact: docs/compatibility.md, 2026-11-26
    ("2.8.0", "3.10", "import tensorflow"),  # fact: docs/compatibility.md, 2026-11-26
    ("2.10.1", "3.10", "import tensorflow"),  # fact: docs/compatibility.md, 2026-11-26
]
# One each before, among and after those whose PTX is for one GPU alone.
PTX = ("2.15.1", "2.20.0", "2.21.0")  # fact: kernels.yml, 2026-11-25
DOUBLE = ("2.8.0", "8.1.0")  # fact: releases.yml, 2026-11-25: a release and its cuDNN
COMMON_CHECKS = """
import tensorflow as tf
gpus = tf.config.list_physical_devices("GPU")
print("tf.test.is_built_with_cuda():", tf.test.is_built_with_cuda())
print("tf.config.list_physical_devices('GPU'):", [gpu.name for gpu in gpus])
with tf.device("/GPU:0"):
    product = tf.matmul(tf.ones((2, 2)), tf.ones((2, 2)))
print("device of tf.matmul of ones:", product.device.rpartition("/device:")[2])
print("its result:", product.numpy().tolist())
"""
FIRST_START = """
import json, time
began = time.monotonic()
import tensorflow as tf
seconds = {"import": time.monotonic() - began}
def step(name, function):
    began = time.monotonic()
    function()
    seconds[name] = time.monotonic() - began
step("list GPUs", lambda: tf.config.list_logical_devices("GPU")[0])
step("matmul", lambda: tf.matmul(tf.ones((64, 64)), tf.ones((64, 64))).numpy())
step("convolution", lambda: tf.nn.conv2d(tf.ones((1, 32, 32, 3)), tf.ones((3, 3, 3, 8)), 1, "SAME").numpy())
def fit():
    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    model.compile(loss="mse")
    model.fit(tf.ones((8, 4)), tf.ones((8, 1)), verbose=0)
step("fit", fit)
print(json.dumps(seconds))
"""


def uv_program() -> str:
    row = TABLES.uv(platform.machine())
    if row is None:
        raise SystemExit(f"findings: there is no pinned uv for {platform.machine()}")
    return ensure_uv(directory=str(REPOSITORY / ".tools"), record=row._asdict(), index_url=None)


def python_of(minor: str) -> str:
    """An interpreter of this machine; else its minor version, for which uv downloads one."""
    rows, _ = find_pythons(environments_root=str(REPOSITORY / ".tools"))
    return next((str(row["path"]) for row in rows if row["minor"] == minor), minor)


def environment(directory: Path, minor: str, *requirements: str) -> str:
    """A virtual environment with what the index has for them today; its Python."""
    uv, environ = uv_program(), uv_environment(cache=os.environ.get("UV_CACHE_DIR"), index_url=None)
    python = str(directory / "bin" / "python")
    subprocess.run([uv, "venv", "--quiet", "--python", python_of(minor), directory], env=environ, check=True)
    command = [uv, "pip", "install", "--quiet", "--python", python, *requirements]
    subprocess.run(command, env=environ, check=True)
    return python


def run(*command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **more})


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def error_of(text: str) -> str:
    """The line of a traceback that names the error; its message may have more of them."""
    found = re.findall(r"^(?:\w+\.)*\w*(?:Error|Exception)\b.*", text, re.MULTILINE)
    return found[-1] if found else last_line(text)


def pins(directory: Path) -> bool:
    seen = True
    for release, minor, program in PINS:
        python = environment(directory / release, minor, f"tensorflow=={release}", "pip")
        consistent = run(python, "-I", "-m", "pip", "check")
        started = run(python, "-I", "-c", program)
        print(f"pip install tensorflow=={release}    # CPython {minor}: installed")
        print(f"pip check                        # {consistent.stdout.strip()}")
        print(f"{program}: {error_of(started.stderr) if started.returncode else 'works'}\n")
        seen = seen and consistent.returncode == 0 and started.returncode != 0
    return seen


def double(directory: Path) -> bool:
    # As tests/conftest.py does.
    import ansible.module_utils

    ansible.module_utils.__path__.append(str(REPOSITORY / "module_utils"))
    from tests.mock_gpu import Doubles

    release, cudnn = DOUBLE
    locks = REPOSITORY / "roles" / "tensorflow_release" / "files" / "locks" / f"tensorflow-{release}"
    python = environment(directory / release, "3.10", "-r", str(locks / "cp310-linux_x86_64-cpu.txt"))
    (site_packages,) = (directory / release).glob("lib/python*/site-packages")
    doubles = Doubles(site_packages, cudnn=cudnn)
    libraries = directory / "libraries"
    doubles.build_libraries(libraries)
    doubles.build_driver(libraries)
    over_doubles = {"LD_LIBRARY_PATH": str(libraries), "TEST_DOUBLE_PTX": "221"}
    common = run(python, "-c", COMMON_CHECKS, **over_doubles)
    print(f"TensorFlow {release} over a driver, CUDA and cuDNN that compute nothing:")
    print(common.stdout.strip() or error_of(common.stderr))
    os.environ.update(over_doubles)
    outcome = probe.examine(python, expect_gpu=True, gpu_count=1, time_limit=300)
    print(f"make verify: {outcome.verdict}: {outcome.reason}")
    return "its result: [[0.0, 0.0], [0.0, 0.0]]" in common.stdout and not outcome.is_good


def ptx(_: Path) -> bool:
    seen = True
    table = (REPOSITORY / "roles/tensorflow_release/files/tables/kernels.yml").read_text(encoding="utf-8")
    for release in PTX:
        done = run(sys.executable, str(REPOSITORY / "scripts" / "read_kernels.py"), "--table", "--release", release)
        row = last_line(done.stdout.replace("  - ", "- ")) if done.returncode == 0 else ""
        print(row or last_line(done.stderr))
        seen = seen and bool(row) and row.removeprefix("- ") in table
    return seen


def start(directory: Path) -> bool:
    if not Path("/proc/driver/nvidia/version").exists():
        raise SystemExit("findings: start needs an NVIDIA GPU with its driver, and this machine has none.")
    release = DOUBLE[0]
    locks = REPOSITORY / "roles" / "tensorflow_release" / "files" / "locks" / f"tensorflow-{release}"
    python = environment(directory / release, "3.10", "-r", str(locks / "cp310-linux_x86_64-cuda.txt"))
    (site_packages,) = (directory / release).glob("lib/python*/site-packages")
    found = ":".join(str(path) for path in site_packages.glob("nvidia/*/lib"))
    version = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    print(f"TensorFlow {release}, {version}")
    for number in ("first", "second"):
        began = time.monotonic()
        more = {"LD_LIBRARY_PATH": found, "CUDA_CACHE_PATH": str(directory / "kernels")}
        done = run(python, "-c", FIRST_START, **more)
        if done.returncode:
            print(error_of(done.stderr))
            return False
        parts = ", ".join(f"{name} {value:.1f} s" for name, value in json.loads(last_line(done.stdout)).items())
        print(f"{number} start: {time.monotonic() - began:.0f} s ({parts})")
    return True


FINDINGS: dict[str, Callable[[Path], bool]] = {"pins": pins, "double": double, "ptx": ptx, "start": start}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=list(FINDINGS), metavar="NAME", help=", ".join(FINDINGS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="finding-") as directory:
        seen = FINDINGS[arguments.name](Path(directory))
    print("seen as docs/findings.md says" if seen else "not seen as docs/findings.md says")
    return 0 if seen else 1


if __name__ == "__main__":
    sys.exit(main())
