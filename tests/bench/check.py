"""What the check costs: the whole of it beside a bare import of TensorFlow, and driver and libraries alone."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "module_utils"))

from tensorflow_stack.check.probe import observe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", help="Python of an environment, such as /opt/tensorflow/tensorflow-2.8.0/bin/python")
    parser.add_argument("--gpu", action="store_true", help="on the GPUs of this machine")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    bare = [options.python, "-I", "-c", "import tensorflow"]
    runs: list[tuple[float, float, float]] = []
    for _ in range(options.pairs + 1):
        imported = seconds(lambda: subprocess.run(bare, check=True, stderr=subprocess.DEVNULL))
        whole = seconds(lambda: observe(options.python, time_limit=600, has_gpu=options.gpu))
        alone = seconds(lambda: observe(options.python, time_limit=600, has_gpu=True, level="libraries"))
        runs.append((imported, whole, alone))
    for imported, whole, alone in runs[1:]:  # the first warms the page cache
        more = whole - imported
        print(f"import {imported:6.2f} s   whole {whole:6.2f} s   {more:+.2f} s   without TensorFlow {alone:.3f} s")
    median = statistics.median(whole - imported for imported, whole, _ in runs[1:])
    print(f"median {median:+.2f} s, {statistics.median(alone for *_, alone in runs[1:]):.3f} s")


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
