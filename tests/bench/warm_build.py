"""What building an environment takes whose wheels were built here before, against a `cp -al` of the build: in turn.

Builds the lock of a release in a root of its own, once to fill the cache and then again and again under other names.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "module_utils"))

from tensorflow_stack.environment.installing import Installer
from tensorflow_stack.environment.venv import apply_absent, apply_present
from tensorflow_stack.io.uv import ensure_uv
from tensorflow_stack.records.environment import EnvironmentSpec
from tensorflow_stack.records.lockfile import lock_path, read_lock
from tensorflow_stack.tables.load import load_tables

FILES = Path(__file__).resolve().parents[2] / "roles/tensorflow_release/files"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", help="an interpreter, such as /usr/bin/python3.10")
    parser.add_argument("--release", default="2.8.0")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    minor = subprocess.check_output([options.python, "-c", program], text=True).strip()
    locks = str(FILES / "locks")
    lock = read_lock(lock_path(locks, release=options.release, python=minor, platform="linux_x86_64", flavour="cpu"))
    with tempfile.TemporaryDirectory(prefix="warm-build-") as root:
        record = load_tables(str(FILES / "tables")).uv("x86_64")._asdict()
        uv = ensure_uv(directory=os.path.join(root, ".tools"), record=record, index_url=None)
        installer = Installer(uv=uv, cache=os.path.join(root, ".cache", "uv"))

        def build(name: str) -> dict[str, float]:
            spec = EnvironmentSpec(name, root, options.release, "cpu", options.python, lock)
            outcome = apply_present(spec, installer=lambda: installer, keep=1, lock_timeout=0)
            return {"path": os.path.join(root, name), **outcome.seconds}

        first = build("first")
        print(f"first, wheels fetched: {first['install']:.2f} s, its import {first['import']:.2f} s")
        # Its files are of no build: links to them are no reason to compare those of the store (decision 0048).
        apart = os.path.join(root, "apart")
        subprocess.run(["cp", "-a", os.path.realpath(first["path"]), apart], check=True)
        ratios = []
        for number in range(options.pairs):
            copy = os.path.join(root, "copy")
            started = time.perf_counter()
            subprocess.run(["cp", "-al", apart, copy], check=True)
            copied = time.perf_counter() - started
            shutil.rmtree(copy)
            warm = build(f"warm-{number}")
            apply_absent(root, f"warm-{number}", lock_timeout=0)
            ratios.append(warm["install"] / copied)
            print(
                f"build {warm['install']:6.2f} s   cp -al {copied:6.2f} s   ratio {ratios[-1]:5.2f}   "
                f"its import {warm['import']:.2f} s"
            )
        print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
