"""A project that a lock has from source is built from the lock's files, without a network.

By real installs, as in test_venv.py, whose site this is; the build backend is a wheel of a few lines.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment.source_builds import without_network
from ansible.module_utils.tensorflow_stack.errors import BuildError
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec
from ansible.module_utils.tensorflow_stack.records.lockfile import Distribution

from tests.component.environment.test_venv import Site, site  # noqa: F401  # the fixture
from tests.wheels import make_wheel

# Writes into the wheel which networks the build sees.
BACKEND = """
import os, zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    networks = sorted(line.split(":")[0].strip() for line in open("/proc/self/net/dev").readlines()[2:])
    info = "promise-2.3.dist-info/"
    name = "promise-2.3-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.writestr("promise.py", f"networks = {networks!r}\\n")
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: promise\\nVersion: 2.3\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        paths = ["promise.py", info + "METADATA", info + "WHEEL", info + "RECORD"]
        wheel.writestr(info + "RECORD", "".join(path + ",,\\n" for path in paths))
    return name
"""


def make_source(directory: Path, pyproject: str) -> Distribution:
    path = directory / "promise-2.3.tar.gz"
    texts = {"PKG-INFO": "Metadata-Version: 2.1\nName: promise\nVersion: 2.3\n", "pyproject.toml": pyproject}
    with tarfile.open(path, "w:gz") as tar:
        for name, text in texts.items():
            row = tarfile.TarInfo(f"promise-2.3/{name}")
            row.size = len(text)
            tar.addfile(row, io.BytesIO(text.encode()))
    body = path.read_bytes()
    return Distribution("promise", "2.3", (hashlib.sha256(body).hexdigest(),), len(body), from_source=True)


def wished(site: Site, source: Distribution) -> EnvironmentSpec:  # noqa: F811
    backend = make_wheel(site.wheels, "mini", "1.0", {"mini.py": BACKEND})
    spec = site.spec(site.tensorflow, site.numpy, source)
    return dataclasses.replace(spec, lock=dataclasses.replace(spec.lock, built_with=(backend,)))


def test_built_from_the_files_of_the_lock_without_a_network(site: Site) -> None:  # noqa: F811
    pyproject = '[build-system]\nrequires = ["mini"]\nbuild-backend = "mini"\n'
    outcome = site.apply(wished(site, make_source(site.wheels, pyproject)))
    assert outcome.action == "build"
    text = (site.site_packages / "promise.py").read_text()
    assert text == "networks = ['lo']\n" or not without_network()


def test_what_is_not_locked_takes_no_part(site: Site) -> None:  # noqa: F811
    make_wheel(site.wheels, "other", "1.0", {"other.py": BACKEND})
    pyproject = '[build-system]\nrequires = ["mini", "other"]\nbuild-backend = "other"\n'
    with pytest.raises(BuildError, match="promise could not be built from source.*Take it out of tensorflow_source"):
        site.apply(wished(site, make_source(site.wheels, pyproject)))
    assert not site.live.exists()


def test_another_file_under_the_same_name(site: Site) -> None:  # noqa: F811
    source = make_source(site.wheels, "")
    (site.wheels / "promise-2.3.tar.gz").write_bytes(b"something else")
    with pytest.raises(BuildError, match="has no file of promise 2.3 with a hash of the lock"):
        site.apply(wished(site, source))
