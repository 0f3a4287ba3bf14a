"""Whatever stands in a file, it is read or refused with its place; and what is read means to uv what it means here."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.requirements.parse import UserRequirements, read_requirements
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from tests.wheels import make_wheel

VERSIONS = ("1.0", "1.0.1", "1.1rc1", "1.1", "1.10", "2.0.post1", "2.1.dev3", "3!1.0")
OPERATORS = ("==", "===", "!=", "<=", ">=", "<", ">", "~=")
specifiers = st.lists(
    st.tuples(st.sampled_from(OPERATORS), st.sampled_from((*VERSIONS, "1.0.*", "1.*", "01.1", "1.1-rc.1"))), max_size=3
).map(lambda parts: ",".join(operator + version for operator, version in parts))
markers = st.sampled_from(
    (
        "",
        "; python_version < '3.10'",
        "; python_version >= '3.10' and sys_platform == 'linux'",
        "; platform_machine == 'aarch64' or os_name == 'nt'",
        "; 'x86' in platform_machine",
        "; python_version not in '3.8, 3.9'",
        "; extra == 'gpu'",
        "; platform_version == ''",
        "; implementation_name != 'cpython'",
    )
)
names = st.sampled_from(("demo", "Demo", "DEMO ", "demo []", "demo-", "démo", "de mo"))
requirements = st.builds("{}{}{}".format, names, specifiers, markers)
options = st.sampled_from(
    ("-r requirements.txt", "-c -", "--index-url=x", "-e .", "--hash=sha256:0", "demo --hash=sha256:0", "\\", "#", "- ")
)
lines = st.lists(requirements | options | st.text(max_size=40), min_size=1, max_size=6)


def read(name: str, text: bytes) -> UserRequirements | StackError:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, name)
        path.write_bytes(text)
        try:
            return read_requirements(str(path))
        except StackError as error:
            refusal = error
    assert refusal.message.isprintable()
    assert name in refusal.message
    return refusal


@given(lines.map(lambda found: "\n".join(found).encode("utf-8", "surrogatepass")) | st.binary(max_size=200))
@example(b"numpy; " + b"(" * 5000 + b"os_name=='a'" + b")" * 5000)
@example(b"numpy==" + b"9" * 5000)
@example(b"numpy==1." + b"9" * 30)
@example(b"\xff\xfea\x00\n\x00")
@settings(max_examples=300, deadline=2000)
def test_a_file_is_read_or_refused_with_its_place(text: bytes) -> None:
    found = read("requirements.txt", text)
    if isinstance(found, StackError):
        assert found.details["refused"] in ("empty", "include_loop") or found.details["line"] >= 1
    else:
        assert found.requirements


@given(
    st.sampled_from(("pyproject.toml", "environment.yml")),
    st.text(max_size=60) | st.sampled_from(("[project]\n", "dependencies:\n- pip:\n  - ")),
    st.text(max_size=60) | requirements.map("dependencies = [{!r}]".format) | requirements,
)
@settings(max_examples=300, deadline=2000)
def test_a_document_is_read_or_refused(name: str, head: str, tail: str) -> None:
    read(name, (head + tail).encode("utf-8", "surrogatepass"))


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
