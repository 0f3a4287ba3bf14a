#!/usr/bin/env python3
"""Print the rows of torch_releases.yml: the newest torch that fits next to each TensorFlow release with CUDA as wheels.

    scripts/fit_torch.py                  the newest patch of each minor, on its newest Python that has one
    scripts/fit_torch.py 2.15.1 2.20.0

Each is resolved with the release, its CUDA wheels and torch alone; two distributions that install one path do not fit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "module_utils"))

from index_today import IndexToday  # noqa: E402  # beside this
from tensorflow_stack.locking.blame import without_clash  # noqa: E402  # found by the line above
from tensorflow_stack.locking.compile import ClashError  # noqa: E402
from tensorflow_stack.locking.inputs import LockInputs, UnsatisfiableError  # noqa: E402
from tensorflow_stack.locking.resolver import resolve_versions  # noqa: E402
from tensorflow_stack.tables.load import Tables, load_tables  # noqa: E402

TABLES = REPOSITORY / "roles/tensorflow_release/files/tables"


class Fit:
    def __init__(self, tables: Tables, directory: str) -> None:
        self._index = IndexToday(tables, directory)

    def torch(self, version: str, python: str) -> str | None:
        inputs = self._index.inputs(version, python, "cuda", f"tensorflow=={version}\ntorch\n")
        try:
            return self._resolve(inputs).get("torch")
        except ClashError as error:
            return without_clash(error, inputs, ["torch"], self._resolve).get("torch")
        except UnsatisfiableError:
            return None

    def _resolve(self, inputs: LockInputs) -> dict[str, str]:
        return resolve_versions(inputs, uv=self._index.uv, **self._index.options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("releases", nargs="*")
    arguments = parser.parse_args()
    tables = load_tables(str(TABLES))
    newest = {Version(row.version).release[:2]: row for row in tables.releases if tables.cuda_wheels_for(row.version)}
    chosen = [row for row in tables.releases if row.version in arguments.releases] or list(newest.values())
    with tempfile.TemporaryDirectory(prefix="tensorflow-torch-") as directory:
        fit = Fit(tables, directory)
        for row in chosen:
            for python in reversed(row.pythons["x86_64"]):
                torch = fit.torch(row.version, python)
                if torch is not None:
                    print(
                        f'  - {{release: "{row.version}", python: "{python}", torch: "{torch}", source: [resolved]}}',
                        flush=True,
                    )
                    break


if __name__ == "__main__":
    main()
