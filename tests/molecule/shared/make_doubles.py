"""Makes what stands in for package indexes in the scenarios of whole playbooks: `make_doubles.py DIRECTORY`.

- `repository`: the double of NVIDIA's repositories. Arguments after DIRECTORY are those of make_repositories.py.
- `wheels` and `locks`: wheels that are called TensorFlow and say its version, and locks of these alone, so that an
  environment is built in seconds. What they cannot do is compute: the check of a run never ends well with them.
- `tables`: the project's, and for Debian what is known of NVIDIA's repository for Ubuntu, since the double has the same
  packages for both.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import ansible.module_utils
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
FILES = REPOSITORY / "roles" / "tensorflow_release" / "files"
sys.path.insert(0, str(REPOSITORY))
ansible.module_utils.__path__.append(str(REPOSITORY / "module_utils"))

from ansible.module_utils.tensorflow_stack.records import lockfile  # noqa: E402  # found by the line above

from tests.wheels import make_tensorflow  # noqa: E402

RELEASES = ("2.8.0", "2.10.1", "2.12.1")
DEBIAN = ("11", "12")
CUDA = ["11.2", "11.8"]
CUDNN = ("8.1.0.77", "8.6.0.163")


def make_wheels_and_locks(directory: Path) -> None:
    wheels = directory / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    for release in RELEASES:
        double = make_tensorflow(wheels, release)
        for path in (FILES / "locks" / f"tensorflow-{release}").glob("cp3*-linux_x86_64-cpu.txt"):
            lock = lockfile.parse_lock(path.read_text(), path=str(path))
            target = directory / "locks" / path.parent.name / path.name
            lockfile.write_lock(str(target), dataclasses.replace(lock, distributions=(double,), constraints=()))


def make_tables(directory: Path) -> None:
    tables = directory / "tables"
    shutil.copytree(FILES / "tables", tables, dirs_exist_ok=True)
    cuda = _rows(tables, "cuda_packages", os="ubuntu", version_id="20.04")
    cudnn = [row for row in _rows(tables, "cudnn_packages", os="ubuntu", version_id="20.04") if row["cudnn"] in CUDNN]
    driver = _rows(tables, "driver_packages", os="debian", version_id="12", origin="nvidia_repo")
    for version_id in DEBIAN:
        debian = {"os": "debian", "version_id": version_id}
        _replace(tables, "cuda_packages", [{**row, **debian, "cuda": CUDA} for row in cuda])
        _replace(tables, "cudnn_packages", [{**row, **debian} for row in cudnn])
        _replace(tables, "driver_packages", [{**row, **debian} for row in driver])


def _rows(tables: Path, name: str, **values: str) -> list[dict[str, object]]:
    rows = yaml.safe_load((tables / f"{name}.yml").read_text())["rows"]
    return [row for row in rows if values.items() <= row.items()]


def _replace(tables: Path, name: str, rows: list[dict[str, object]]) -> None:
    """Write the rows in place of those that the distribution's release has of NVIDIA's repository."""
    path = tables / f"{name}.yml"
    content = yaml.safe_load(path.read_text())
    keys = ("os", "version_id", "origin")
    replaced = [{key: row.get(key) for key in keys} for row in rows]
    kept = [row for row in content["rows"] if {key: row.get(key) for key in keys} not in replaced]
    path.write_text(yaml.safe_dump({**content, "rows": [*kept, *rows]}, sort_keys=False))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    make_wheels_and_locks(target)
    make_tables(target)
    program = REPOSITORY / "tests" / "repositories" / "make_repositories.py"
    subprocess.run([sys.executable, str(program), str(target / "repository"), *sys.argv[2:]], check=True)
    target.chmod(0o755)  # apt reads it as a user of its own.
