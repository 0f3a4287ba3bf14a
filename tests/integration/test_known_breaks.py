"""Each constraint is needed: without it the real TensorFlow fails as its row says, with it it works."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from ansible.module_utils.tensorflow_stack.locking.inputs import LockRequest, lock_inputs
from ansible.module_utils.tensorflow_stack.locking.resolver import resolve_lock
from ansible.module_utils.tensorflow_stack.tables.load import Tables, load_tables

from tests.needs import python_of
from tests.playbooks import REPOSITORY

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TABLES = REPOSITORY / "roles" / "tensorflow_release" / "files" / "tables"
IMPORT = "import tensorflow; tensorflow.keras.layers.Dense"
SUMMARY = """
import keras, numpy, tempfile
model = keras.Sequential([keras.layers.Dense(1)])
model.compile(loss="mse")
ones = numpy.ones((2, 1))
model.fit(ones, ones, verbose=0, callbacks=[keras.callbacks.TensorBoard(tempfile.mkdtemp())])
"""


class Break(NamedTuple):
    release: str
    python: str
    requirement: str
    program: str


BREAKS = [
    Break("2.8.0", "3.10", "protobuf<3.21", IMPORT),
    Break("2.10.1", "3.10", "numpy<2", IMPORT),
    Break("2.6.0", "3.9", "keras<2.7", IMPORT),
    Break("2.13.1", "3.11", "setuptools<82", "import tensorboard.main"),
    Break("2.21.0", "3.12", "tensorboard>=2.21", SUMMARY),
]


@pytest.fixture(scope="module")
def tables() -> Tables:
    return load_tables(str(TABLES))


def without(tables: Tables, requirement: str) -> Tables:
    """The tables without the rows of one requirement, whatever its marker."""
    rows = tuple(row for row in tables.constraints if row.requirement.partition(";")[0] != requirement)
    assert len(rows) < len(tables.constraints), requirement
    return dataclasses.replace(tables, constraints=rows)


def run(tables: Tables, known: Break, *, uv: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Resolve with these tables, install, and run the program that meets the break."""
    request = LockRequest(known.release, known.python, "linux_x86_64", "cpu")
    lock = resolve_lock(lock_inputs(request, tables), uv=lambda: uv, cutoff="2026-11-22T00:00:00Z")
    directory.mkdir()
    (directory / "lock.txt").write_text(lock.text)
    python = str(directory / "venv" / "bin" / "python")
    command = [uv, "pip", "sync", "--quiet", "--python", python, "--require-hashes", "--only-binary", ":all:"]
    command += [option for name in lock.from_source for option in ("--no-binary", name)]
    subprocess.run([uv, "venv", "--quiet", "--python", python_of(known.python).path, directory / "venv"], check=True)
    subprocess.run([*command, directory / "lock.txt"], check=True)
    return subprocess.run([python, "-I", "-c", known.program], capture_output=True, text=True)


@pytest.mark.parametrize("known", BREAKS, ids=lambda known: f"{known.release}-{known.requirement}")
def test_break_is_real_and_mended(known: Break, tables: Tables, uv: str, tmp_path: Path) -> None:
    rows = tables.constraints_for(known.release, known.python)
    symptom = next(row.symptom for row in rows if row.requirement == known.requirement)
    broken = run(without(tables, known.requirement), known, uv=uv, directory=tmp_path / "broken")
    assert broken.returncode != 0
    assert symptom.rpartition(": ")[2] in " ".join(broken.stderr.split()), broken.stderr[-2000:]
    mended = run(tables, known, uv=uv, directory=tmp_path / "mended")
    assert mended.returncode == 0, mended.stderr[-2000:]
