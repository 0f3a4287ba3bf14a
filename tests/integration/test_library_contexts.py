"""TensorFlow opens its CUDA with no variable set: started by a shell, cron, systemd, a script, a Jupyter kernel.

The host is a container of tests/hosts with Debian 11, whose own Python 3.9 the environments are built on. TensorFlow,
loader, systemd, cron and Jupyter are real. The driver is a double that the loader finds by itself (tests/doubles). For
`found` so is the CUDA of the node: libraries with the names that TensorFlow asks for and nothing in them.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.locking.inputs import LockRequest, lock_inputs
from ansible.module_utils.tensorflow_stack.locking.resolver import resolve_lock
from ansible.module_utils.tensorflow_stack.records.lockfile import Lock
from ansible.module_utils.tensorflow_stack.requirements.parse import read_requirements
from ansible.module_utils.tensorflow_stack.tables.load import Tables, load_tables

from tests.container import Host, running, wait_for
from tests.needs import require, unavailable
from tests.playbooks import REPOSITORY

# In CI test_mock_gpu.py has the real TensorFlow open the CUDA that its environment links.
pytestmark = [pytest.mark.integration, pytest.mark.slow]

IMAGE = "debian-11"
PYTHON = "3.9"
RELEASE = "2.8.0"
CUTOFF = "2026-11-22T00:00:00Z"
LOADER_DIRECTORY = "/usr/lib/x86_64-linux-gnu"
CUDA_LIBRARY = re.compile(r"lib(cu(?!rl)|nv)")
# What TensorFlow 2.8 opens before it lists a GPU.
CUDA = (
    *("libcudart.so.11.0", "libcublas.so.11", "libcublasLt.so.11", "libcufft.so.10", "libcurand.so.10"),
    *("libcusolver.so.11", "libcusparse.so.11"),
)
CUDNN = "libcudnn.so.8"
CUDA_OF_THE_NODE = "/usr/local/cuda-11.2/lib64"

LIST_GPUS = """\
import json, os, tensorflow
details = tensorflow.config.experimental.get_device_details
gpus = [details(gpu)["device_name"] for gpu in tensorflow.config.list_physical_devices("GPU")]
paths = {line.split(None, 5)[5].rstrip() for line in open("/proc/self/maps") if "/" in line}
variables = sorted(name for name in os.environ if name.startswith(("LD_", "CUDA", "PYTHON", "XLA", "TF_")))
print("SEEN", json.dumps({"gpus": gpus, "mapped": sorted(paths), "variables": variables}))
"""

ASK_A_KERNEL = """\
import sys
from jupyter_client import KernelManager
manager = KernelManager(kernel_name="tensorflow")
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute_interactive(open("/srv/list_gpus.py").read(), timeout=120)
manager.shutdown_kernel(now=True)
"""


@dataclass(frozen=True)
class Source:
    """Where CUDA comes from; `cuda` and `cudnn`: where the libraries are expected, below site-packages or absolute."""

    flavour: str
    library_directories: tuple[str, ...]
    cuda: str
    cudnn: str
    stand_ins: tuple[str, ...] = field(default=())


SOURCES = {
    "found": Source("cpu", (CUDA_OF_THE_NODE,), CUDA_OF_THE_NODE, CUDA_OF_THE_NODE, (*CUDA, CUDNN)),
    "found and cuDNN of wheels": Source(
        "cudnn", ("nvidia/cudnn/lib", CUDA_OF_THE_NODE), CUDA_OF_THE_NODE, "nvidia/cudnn/lib", CUDA
    ),
    "wheels": Source("cuda", ("nvidia/*/lib",), "nvidia/*/lib", "nvidia/cudnn/lib"),
}


@dataclass(frozen=True)
class Environment:
    host: Host
    source: Source
    path: str

    @property
    def python(self) -> str:
        return f"{self.path}/bin/python"


@pytest.fixture(scope="module", params=SOURCES)
def source(request: pytest.FixtureRequest) -> Source:
    return SOURCES[request.param]


@pytest.fixture(scope="module")
def compiler() -> str:
    require("gcc", "libc6-dev")
    return "gcc"


@pytest.fixture(scope="module")
def host(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A Debian 11 with cron and the double of the driver, where its packages have the driver."""
    if platform.machine() != "x86_64":
        unavailable("CUDA and its doubles are for x86_64")
    with running(IMAGE) as host:
        host.run("apt-get", "install", "--yes", "--no-install-recommends", "cron", "python3-venv")
        driver = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
        source = REPOSITORY / "tests" / "doubles" / "libcuda.c"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", driver, source], check=True)
        host.copy(driver, f"{LOADER_DIRECTORY}/libcuda.so.1")
        host.run("ldconfig")
        host.put("/srv/list_gpus.py", LIST_GPUS)
        yield host


@pytest.fixture(scope="module")
def environment(
    host: Host, source: Source, compiler: str, uv: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """Built by the module on the host, from a lock of the release and of what a notebook needs."""
    directory = tmp_path_factory.mktemp("environment")
    host.run("rm", "-rf", "/usr/local/cuda-11.2", "/opt/tensorflow")
    for name in source.stand_ins:
        library = directory / name
        soname = f"-Wl,-soname,{name}"
        subprocess.run([compiler, "-shared", "-x", "c", "/dev/null", soname, "-o", library], check=True)
        host.run("mkdir", "-p", CUDA_OF_THE_NODE)
        host.copy(library, f"{CUDA_OF_THE_NODE}/{name}")
    tables = load_tables(str(REPOSITORY / "roles" / "tensorflow_release" / "files" / "tables"))
    name = f"tensorflow-{RELEASE}"
    arguments = {
        "name": name,
        "root": "/opt/tensorflow",
        "python": f"/usr/bin/python{PYTHON}",
        "lock": notebook_lock(tables, source.flavour, uv, directory).text,
        "library_directories": list(source.library_directories),
        "uv": tables.uv("x86_64")._asdict(),
    }
    run_module(host, "tensorflow_venv", arguments)
    environment = Environment(host, source, f"/opt/tensorflow/{name}")
    # The job runs at the next full minute, while other tests go on.
    job = f"{environment.python} /srv/list_gpus.py >/srv/cron.$$ 2>&1; mv /srv/cron.$$ /srv/cron.said"
    host.put("/etc/cron.d/list-gpus", f"* * * * * root {job}\n")
    yield environment
    host.run("rm", "-f", "/etc/cron.d/list-gpus", "/srv/cron.said")


def notebook_lock(tables: Tables, flavour: str, uv: str, directory: Path) -> Lock:
    requirements = directory / "requirements.txt"
    requirements.write_text(f"tensorflow=={RELEASE}\nipykernel\n")
    request = LockRequest(RELEASE, PYTHON, "linux_x86_64", flavour, read_requirements(str(requirements)))
    return resolve_lock(lock_inputs(request, tables), uv=lambda: uv, cutoff=CUTOFF)


def run_module(host: Host, module: str, arguments: dict[str, Any]) -> None:
    """By Ansible, over ssh."""
    command = [Path(sys.executable).parent / "ansible", "host", f"--inventory={host.inventory}"]
    done = subprocess.run(
        [*command, f"--module-name={module}", f"--args={json.dumps(arguments)}"],
        cwd=REPOSITORY,
        env=host.variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr


# What starts it: each gives back what TensorFlow said.


def from_an_interactive_shell(environment: Environment) -> str:
    return environment.host.run("bash", "--login", "-i", stdin=f"{environment.python} /srv/list_gpus.py\n")


def from_an_empty_environment(environment: Environment) -> str:
    return environment.host.run("env", "-i", environment.python, "/srv/list_gpus.py")


def from_a_systemd_unit(environment: Environment) -> str:
    return environment.host.run(
        *("systemd-run", "--quiet", "--wait", "--pipe", "--collect"), environment.python, "/srv/list_gpus.py"
    )


def from_a_systemd_unit_of_another_user(environment: Environment) -> str:
    return environment.host.run(
        *("systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--uid=nobody"),
        *(environment.python, "/srv/list_gpus.py"),
    )


def from_a_script(environment: Environment) -> str:
    environment.host.put("/srv/list_gpus", f"#!{environment.python}\n{LIST_GPUS}", mode="0755")
    return environment.host.run("env", "-i", "/srv/list_gpus")


def from_a_console_script(environment: Environment) -> str:
    return environment.host.run("env", "-i", "HOME=/root", f"{environment.path}/bin/ipython", "/srv/list_gpus.py")


def from_a_jupyter_kernel(environment: Environment) -> str:
    """Of the kernel that an editor or a Jupyter server starts by its specification, which names the interpreter."""
    host = environment.host
    command = [environment.python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    specification = {"argv": command, "display_name": "TensorFlow", "language": "python"}
    host.put("/usr/local/share/jupyter/kernels/tensorflow/kernel.json", json.dumps(specification))
    return host.run("env", "-i", "HOME=/root", environment.python, "-c", ASK_A_KERNEL)


def from_cron(environment: Environment) -> str:
    wait_for(lambda: "cron.said" in environment.host.run("ls", "/srv"), "cron")
    return environment.host.run("cat", "/srv/cron.said")


@pytest.mark.parametrize(
    "start",
    [
        from_an_interactive_shell,
        from_an_empty_environment,
        from_a_systemd_unit,
        from_a_systemd_unit_of_another_user,
        from_a_script,
        from_a_console_script,
        from_a_jupyter_kernel,
        from_cron,
    ],
    ids=lambda start: start.__name__,
)
def test_every_library_is_opened(environment: Environment, start: Callable[[Environment], str]) -> None:
    said = start(environment)
    seen = json.loads(said.partition("SEEN ")[2].splitlines()[0])
    assert seen["gpus"] == ["test double"], said
    assert seen["variables"] == []
    real_path = environment.host.run("realpath", environment.path).strip()
    site_packages = f"{real_path}/lib/python{PYTHON}/site-packages"
    opened = {os.path.basename(path): os.path.dirname(path) for path in seen["mapped"] if is_cuda(path)}
    assert set(opened) == {*CUDA, CUDNN, "libcuda.so.1"}
    for name, directory in opened.items():
        expected = environment.source.cudnn if name == CUDNN else environment.source.cuda
        expected = LOADER_DIRECTORY if name == "libcuda.so.1" else expected
        assert Path(directory).match(os.path.join(site_packages, expected)), f"{name} from {directory}"


def is_cuda(path: str) -> bool:
    return CUDA_LIBRARY.match(os.path.basename(path)) is not None
