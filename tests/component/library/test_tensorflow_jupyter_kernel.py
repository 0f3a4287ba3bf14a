"""The module that has Jupyter find an environment: what it writes, and what it leaves alone."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.environment import installing, kernelspec, venv
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec

from tests.conftest import RunModule
from tests.wheels import make_lock, make_tensorflow, make_wheel

MINOR = "%d.%d" % sys.version_info[:2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, uv: str) -> str:
    """With two environments, of which one can be a kernel."""
    path = tmp_path_factory.mktemp("kernels")
    wheels = path / "wheels"
    wheels.mkdir()
    made = [make_tensorflow(wheels, "2.8.0"), make_wheel(wheels, "ipykernel", "6.29.5", {"ipykernel/__init__.py": ""})]
    root = str(path / "root")
    for name, wanted in {"tensorflow-2.8.0": made, "My+project": made, "plain": made[:1]}.items():
        lock = make_lock(*wanted, release="2.8.0", python=MINOR)
        spec = EnvironmentSpec(name, root, "2.8.0", "cpu", os.path.realpath(sys.executable), lock)
        installer = installing.Installer(uv=uv, index_url=wheels.as_uri(), cache=f"{root}/.cache/uv")
        venv.apply_present(spec, installer=lambda installer=installer: installer, keep=2, lock_timeout=0)  # type: ignore[misc]
    return root


Kernel = Callable[..., dict[str, Any]]


@pytest.fixture
def kernel(run_module: RunModule, root: str, tmp_path: Path) -> Kernel:
    def run(environment: str = "tensorflow-2.8.0", **options: Any) -> dict[str, Any]:
        options = {"root": root, "directory": str(tmp_path / "kernels"), **options}
        return run_module("tensorflow_jupyter_kernel", environment=environment, **options)

    return run


def test_it_is_made_once_and_removed_once(kernel: Kernel, root: str, tmp_path: Path) -> None:
    path = tmp_path / "kernels" / "tensorflow-2.8.0" / "kernel.json"
    planned = kernel(check=True)
    assert planned["changed"] and not path.exists()
    made = kernel()
    assert (made["changed"], made["kernelspec"], made["diff"]) == (True, str(path), planned["diff"])
    assert made["diff"]["before"] == "" and made["diff"]["after"] == path.read_text()
    content = json.loads(path.read_text())
    assert content["argv"][0] == f"{root}/tensorflow-2.8.0/bin/python"
    assert content["display_name"] == "TensorFlow 2.8.0"
    assert not kernel()["changed"]
    planned = kernel(state="absent", check=True)
    assert planned["changed"] and path.exists()
    removed = kernel(state="absent")
    assert (removed["changed"], removed["diff"]) == (True, planned["diff"])
    assert list((tmp_path / "kernels").iterdir()) == []
    again = kernel(state="absent")
    assert (again["changed"], again["message"]) == (False, f"nothing to remove: {path} does not exist")


# Where the run dies: the state, a function, and whether before or after its call.
POINTS = {
    "directory_made": ("present", "os.makedirs", "after"),
    "not_in_place": ("present", "os.replace", "before"),
    "in_place": ("present", "os.replace", "after"),
    "removed_and_not_its_directory": ("absent", "os.unlink", "after"),
}


@pytest.mark.parametrize("next_one", ["present", "absent"])
@pytest.mark.parametrize(("state", "function", "moment"), POINTS.values(), ids=POINTS)
def test_the_next_run_completes_one_that_was_killed(
    kernel: Kernel, root: str, tmp_path: Path, state: str, function: str, moment: str, next_one: str
) -> None:
    directory = str(tmp_path / "kernels")
    if state == "absent":
        kernel()
    child = os.fork()
    if child == 0:
        name = function.partition(".")[2]
        original = getattr(os, name)

        def killed(*arguments: Any, **options: Any) -> None:
            if moment == "after":
                original(*arguments, **options)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(os, name, killed)
        getattr(kernelspec, state)(root, "tensorflow-2.8.0", directory, check_mode=False)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    kernel(state=next_one)
    left = [str(path.relative_to(directory)) for path in sorted(Path(directory).rglob("*"))]
    assert left == (["tensorflow-2.8.0", "tensorflow-2.8.0/kernel.json"] if next_one == "present" else [])
    assert not kernel(state=next_one)["changed"]


def test_a_kernel_has_a_name_that_jupyter_accepts(kernel: Kernel, tmp_path: Path) -> None:
    made = kernel("My+project")
    assert made["kernelspec"] == str(tmp_path / "kernels" / "my-project" / "kernel.json")
    assert json.loads(Path(made["kernelspec"]).read_text())["display_name"] == "My+project (TensorFlow 2.8.0)"


def test_what_jupyter_could_not_start_is_refused(kernel: Kernel, root: str, tmp_path: Path) -> None:
    for check in (True, False):
        refused = kernel("plain", check=check)
        assert refused["msg"] == (
            f"{root}/plain has no ipykernel, with which Jupyter starts it. Add it (make add PACKAGES=ipykernel "
            "ENVIRONMENT=plain), and run again."
        )
    assert "there are My+project, plain, tensorflow-2.8.0" in kernel("tensorflow-2.9.0")["msg"]
    assert not (tmp_path / "kernels").exists()


def _text(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "kernel.json").write_text("{}")


def _logo(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "logo-64x64.png").write_text("")


def _link(path: Path) -> None:
    _text(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _another(path: Path) -> None:
    path.mkdir(parents=True)
    metadata = {"tensorflow_gpu_stack": {"environment": "/srv/tensorflow-2.8.0"}}
    (path / "kernel.json").write_text(json.dumps({"metadata": metadata}))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_text, "was not made by this toolkit"),
        (_logo, "is in a directory with files that this toolkit did not make"),
        (_link, "is not in a directory of its own: a link or a file has that name"),
        (_another, "is the kernel of /srv/tensorflow-2.8.0"),
    ],
)
def test_what_it_did_not_make_stays(kernel: Kernel, tmp_path: Path, make: Callable[[Path], None], why: str) -> None:
    make(tmp_path / "kernels" / "tensorflow-2.8.0")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    refused = kernel()
    assert why in refused["msg"] and "Move it away, or set kernel_directory to another." in refused["msg"]
    kept = kernel(state="absent")
    assert not kept["changed"] and why in kept["message"]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_where_kernels_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert kernelspec.default_directory({}) == "/usr/local/share/jupyter/kernels"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/me")
    assert kernelspec.default_directory({}) == "/home/me/.local/share/jupyter/kernels"
    assert kernelspec.default_directory({"XDG_DATA_HOME": "/data"}) == "/data/jupyter/kernels"
    assert kernelspec.default_directory({"JUPYTER_DATA_DIR": "/jupyter"}) == "/jupyter/kernels"
