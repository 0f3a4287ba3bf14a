"""What recognising an unchanged environment costs, by names and sizes and by contents: both in turn."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "module_utils"))

from tensorflow_stack.environment.builds import live_build
from tensorflow_stack.environment.damage import find_damage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("environment", help="path of an environment, such as /opt/tensorflow/tensorflow-2.8.0")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    root, name = os.path.split(os.path.abspath(options.environment))
    build = live_build(root, name)
    if build is None or build.record is None:
        sys.exit(f"There is no environment of this toolkit at {options.environment}.")
    pairs = []
    for _ in range(options.pairs + 1):
        marks = [time.perf_counter()]
        for hashed in ((), build.packages):
            damage = find_damage(build, hashed=hashed)
            if damage:
                sys.exit(f"It is damaged: {damage[0].text}")
            marks.append(time.perf_counter())
        pairs.append((marks[1] - marks[0], marks[2] - marks[1]))
    for sizes, contents in pairs[1:]:  # the first pair warms the page cache
        print(f"names and sizes {sizes:7.3f} s   contents {contents:7.3f} s   ratio {sizes / contents:.3f}")
    print(f"median {statistics.median(sizes for sizes, _ in pairs[1:]):.3f} s")


if __name__ == "__main__":
    main()
