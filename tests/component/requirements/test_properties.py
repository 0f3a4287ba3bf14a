"""What is read of a requirement means to uv what it means here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from hypothesis import HealthCheck, given, settings
from packaging.utils import canonicalize_name

from tests.unit.module_utils.requirements.test_properties import VERSIONS, read, requirements
from tests.wheels import make_wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheels")
    for version in VERSIONS:
        make_wheel(directory, "demo", version, {})
    return directory


@given(requirements)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_read_means_the_same_to_uv(uv: str, wheels: Path, line: str) -> None:
    found = read("requirements.txt", line.encode())
    if isinstance(found, StackError):
        return
    [wish] = found.requirements
    assert canonicalize_name(wish.requirement.name) == "demo"
    marker = wish.requirement.marker
    target = {"python_version": "3.10", "python_full_version": "3.10.0", "platform_machine": "x86_64", "extra": ""}
    linux = {"sys_platform": "linux", "os_name": "posix", "platform_version": "", "implementation_name": "cpython"}
    applies = marker is None or marker.evaluate({**target, **linux})
    fitting = list(wish.requirement.specifier.filter(VERSIONS)) if applies else []
    command = [
        uv,
        "pip",
        "compile",
        "--quiet",
        "--no-header",
        "--no-annotate",
        "--no-config",
        "--offline",
        "--no-index",
    ]
    command += ["--find-links", str(wheels), "--python-version", "3.10", "--python-platform", "x86_64-manylinux_2_28"]
    done = subprocess.run([*command, "-"], input=f"{wish.requirement}\n", capture_output=True, text=True)
    if applies and not fitting:
        assert "No solution found" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    taken = done.stdout.strip().partition("==")[2]
    assert (taken in fitting) if applies else not taken
