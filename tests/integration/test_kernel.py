"""make kernel: a real Jupyter executes a notebook in an environment, before and after a switch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import installing, venv
from ansible.module_utils.tensorflow_stack.environment.bookkeeping import Done, record_in_manifest
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec

from tests.wheels import make_lock, make_tensorflow, make_wheel

pytestmark = [pytest.mark.integration, pytest.mark.slow]

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = "tensorflow-2.8.0"
MINOR = "%d.%d" % sys.version_info[:2]
NOTEBOOK = """
import sys
import nbclient, nbformat

source = "import sys, tensorflow, tool; print(tensorflow.__version__, tool.version, sys.executable)"
cell = nbformat.v4.new_code_cell(source)
notebook = nbformat.v4.new_notebook(cells=[cell])
nbclient.NotebookClient(notebook, kernel_name=sys.argv[1]).execute()
print(cell.outputs[0].text)
"""


class Node:
    """An environment with a real ipykernel, and a Jupyter apart from it."""

    def __init__(self, path: Path, uv: str) -> None:
        self.path, self.uv = path, uv
        self.root = str(path / "root")
        self.wheels = path / "wheels"
        self.wheels.mkdir()
        self.tensorflow = make_tensorflow(self.wheels, "2.8.0")
        self.jupyter = path / "jupyter" / "bin" / "python"

    def run(self, *command: str | Path) -> str:
        # As a user who is not root: the kernel is in that user's directory.
        values = {**os.environ, "HOME": str(self.path), "XDG_DATA_HOME": str(self.path / "data")}
        return subprocess.check_output(command, text=True, cwd=REPOSITORY, env=values)

    def build(self, version: str) -> None:
        tool = make_wheel(self.wheels, "tool", version, {"tool.py": f"version = {version!r}\n"})
        lock = make_lock(self.tensorflow, tool, release="2.8.0", python=MINOR)
        spec = EnvironmentSpec(NAME, self.root, "2.8.0", "cpu", os.path.realpath(sys.executable), lock)
        installer = installing.Installer(uv=self.uv, index_url=self.wheels.as_uri(), cache=f"{self.root}/.cache/uv")
        venv.apply_present(spec, installer=lambda: installer, keep=2, lock_timeout=0, drop_additions=True)
        record_in_manifest(self.root, NAME, Done("build", None))
        self.run(self.uv, "pip", "install", "--quiet", "--python", f"{self.root}/{NAME}", "ipykernel")

    def make(self, **variables: str) -> str:
        given = [f"{name}={value}" for name, value in variables.items()]
        kernels = f"kernel_directory={self.path}/data/jupyter/kernels"
        return self.run(sys.executable, "scripts/run_playbook.py", "kernel", f"ROOT={self.root}", kernels, *given)

    def execute(self) -> str:
        return self.run(self.jupyter, "-c", NOTEBOOK, NAME).strip()


@pytest.fixture
def node(tmp_path: Path, uv: str) -> Node:
    made = Node(tmp_path, uv)
    made.build("1.0")
    made.run(uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "jupyter")
    made.run(uv, "pip", "install", "--quiet", "--python", tmp_path / "jupyter", "nbclient")
    return made


def test_a_notebook_runs_in_the_environment_and_follows_a_switch(node: Node) -> None:
    assert f"TensorFlow 2.8.0: the kernel of {node.root}/{NAME}\n" in node.make()
    assert node.execute() == f"2.8.0 1.0 {node.root}/{NAME}/bin/python"
    node.build("2.0")
    assert node.execute() == f"2.8.0 2.0 {node.root}/{NAME}/bin/python"
    assert "changed=0" in (said := node.make()), said
    assert "changed=1" in node.make(STATE="absent", CHECK="1")
    assert "changed=1" in node.make(STATE="absent")
    assert "changed=0" in node.make(STATE="absent")
    with pytest.raises(subprocess.CalledProcessError):
        node.execute()
