"""Whatever a file contains, it is read or refused with its place."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.requirements.parse import UserRequirements, read_requirements
from hypothesis import example, given, settings
from hypothesis import strategies as st

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
    assert all(line.isprintable() for line in refusal.message.split("\n"))
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
