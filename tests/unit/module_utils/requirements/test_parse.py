from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.requirements.parse import (
    missing_tensorflow,
    read_requirements,
    tensorflow_requirement,
)


def write(directory: Path, name: str, content: str | bytes) -> str:
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_lines_with_their_places(tmp_path: Path) -> None:
    write(tmp_path, "more.txt", "pandas[excel]~=2.0 ; python_version >= '3.9'\n")
    write(tmp_path, "limits.txt", "-r other.txt\nscipy<1.12\n")
    write(tmp_path, "other.txt", "h5py<4\n")
    path = write(
        tmp_path,
        "requirements.txt",
        "\ufeff# the three pins\n\ntensorflow == 2.8.0  # as in 2022\nnumpy==1.23.5 \\\n"
        "    --hash=sha256:00\nkeras\\\n==2.8.0\n-r more.txt\n--constraint=limits.txt\n",
    )
    found = read_requirements(path)
    assert [(str(wish.requirement), wish.where) for wish in found.requirements] == [
        ("tensorflow==2.8.0", f"{path}:3"),
        ("numpy==1.23.5", f"{path}:4"),
        ("keras==2.8.0", f"{path}:6"),
        ('pandas[excel]~=2.0; python_version >= "3.9"', f"{tmp_path}/more.txt:1"),
    ]
    assert [(str(limit.requirement), limit.where) for limit in found.constraints] == [
        ("h5py<4", f"{tmp_path}/other.txt:1"),
        ("scipy<1.12", f"{tmp_path}/limits.txt:2"),
    ]
    assert found.notes == [f"{path}:4: the hashes are ignored, the lock has those of the index."]


def test_one_file_may_be_included_twice(tmp_path: Path) -> None:
    write(tmp_path, "base.txt", "six\n")
    path = write(tmp_path, "requirements.txt", "-r base.txt\n-rbase.txt\n--require-hashes\n")
    found = read_requirements(path)
    assert [wish.requirement.name for wish in found.requirements] == ["six", "six"]
    assert found.notes == [f"{path}:3: --require-hashes is not needed, a lock always has hashes."]


@pytest.mark.parametrize(
    ("line", "found", "remedy"),
    [
        ("--index-url https://example.org/simple", "--index-url", "tensorflow_index_url"),
        ("-i https://example.org/simple", "-i", "tensorflow_index_url"),
        ("--extra-index-url=https://example.org/simple", "--extra-index-url", "tensorflow_index_url"),
        ("--trusted-host example.org", "--trusted-host", "tensorflow_index_url"),
        ("--find-links wheels", "--find-links wheels", "name==version"),
        ("-f wheels", "-f wheels", "name==version"),
        ("-e ./package", "-e ./package", "name==version"),
        ("--pre", "--pre", "-r, -c and --hash"),
        ("numpy==1.23.5 --config-settings=x=y", "--config-settings", "Remove it"),
        ("https://example.org/numpy.whl", "the URL https://example.org/numpy.whl", "name==version"),
        ("git+ssh://example.org/numpy", "the URL git+ssh://example.org/numpy", "name==version"),
        ("numpy @ https://example.org/numpy.whl", "numpy from the URL", "name==version"),
        ("./numpy-1.23.5.whl", "the path ./numpy-1.23.5.whl", "name==version"),
        ("numpy-1.23.5.tar.gz", "the path numpy-1.23.5.tar.gz", "name==version"),
        ("numpy==${VERSION}", "the environment variable ${VERSION}", "Write its value"),
        ("numpy=1.23.5", "'numpy=1.23.5', which is not a requirement", "name==1.2.3"),
        ("numpy==1.23.5 six", "which is not a requirement", "name==1.2.3"),
        ("-r", "-r without a file", "Name a text file"),
        ("-r https://example.org/r.txt", "the include https://example.org/r.txt", "Name a text file"),
        ("-c missing.txt", "missing.txt, which is not a file", "Name a text file"),
        ("-r 'open", "No closing quotation", "name==1.2.3"),
        ("numpy" + "1" * 70000, "a line of at least 70005 characters", "requirements file"),
        ("numpy==1\\\n" * 20000, "a line of at least 655", "requirements file"),
        (b"numpy\0==1.23.5", "a NUL byte", "UTF-8"),
        (b"numpy==1.23.5 # caf\xe9", "not UTF-8 (0xe9)", "UTF-8"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_refusals(tmp_path: Path, line: str | bytes, found: str, remedy: str) -> None:
    raw = line if isinstance(line, bytes) else line.encode()
    path = write(tmp_path, "requirements.txt", b"six\n" + raw + b"\n")
    with pytest.raises(StackError) as refusal:
        read_requirements(path)
    assert refusal.value.message.startswith(f"{path}:2: found ")
    assert found in refusal.value.message
    assert remedy in refusal.value.message


def test_include_loop_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "b.txt", "-c requirements.txt\n")
    path = write(tmp_path, "requirements.txt", "-r b.txt\n")
    with pytest.raises(StackError, match=r"includes itself, by way of .*requirements.txt -> .*b.txt"):
        read_requirements(path)


@pytest.mark.parametrize("content", ["", "# nothing\n"])
def test_file_without_requirement_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(StackError, match=r"found no requirement. Write one a line"):
        read_requirements(write(tmp_path, "requirements.txt", content))


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"none.txt cannot be read: No such file.*Set tensorflow_requirements"):
        read_requirements(str(tmp_path / "none.txt"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("tensorflow==2.8.0\n", ("tensorflow", "==2.8.0", 1)),
        ("numpy\nTensorflow_GPU==2.8.0\n", ("tensorflow-gpu", "==2.8.0", 2)),
        ("tensorflow[and-cuda]~=2.15.0\n", ("tensorflow", "~=2.15.0", 1)),
        ("tensorflow>=2.8\ntensorflow<2.9\n", ("tensorflow", "<2.9,>=2.8", 1, 2)),
        (
            "tensorflow==2.8.0; python_version < '3.11'\ntensorflow==2.15.1; python_version >= '3.11'\n",
            ("tensorflow", "==2.8.0", 1),
        ),
        ("tensorflow==2.8.0; sys_platform == 'darwin'\n", None),
        ("numpy\n", None),
    ],
    ids=["exact", "gpu", "extra", "two lines", "by python", "not on linux", "none"],
)
def test_tensorflow_requirement(tmp_path: Path, content: str, expected: tuple[Any, ...] | None) -> None:
    path = write(tmp_path, "requirements.txt", content)
    found = tensorflow_requirement(read_requirements(path), "3.10")
    assert (found and (found.project, str(found.specifier), found.where)) == (
        expected and (*expected[:2], " and ".join(f"{path}:{line}" for line in expected[2:]))
    )


def test_constraint_narrows_tensorflow(tmp_path: Path) -> None:
    write(tmp_path, "limits.txt", "tensorflow<2.8.4\n")
    path = write(tmp_path, "requirements.txt", "tensorflow~=2.8.0\n-c limits.txt\n")
    found = tensorflow_requirement(read_requirements(path), "3.10")
    assert found is not None
    assert str(found.specifier) == "<2.8.4,~=2.8.0"


def test_two_tensorflow_projects_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "requirements.txt", "tensorflow==2.8.0\ntensorflow-gpu==2.8.0\n")
    with pytest.raises(StackError) as refusal:
        tensorflow_requirement(read_requirements(path), "3.10")
    assert refusal.value.message == (
        f"{path}:2 asks for tensorflow-gpu==2.8.0, {path}:1 for tensorflow==2.8.0: "
        "both install the same files. Keep one of the two lines."
    )


def test_all_refused_lines_are_named_at_once(tmp_path: Path) -> None:
    text = b"--extra-index-url https://example.org/simple\nnumpy\nmine @ git+https://example.org/mine.git\n-e .\n"
    path = write(tmp_path, "requirements.txt", text)
    with pytest.raises(StackError) as refusal:
        read_requirements(path)
    head, *rows = refusal.value.message.split("\n")
    assert head == f"3 lines of {path} are refused:"
    assert [row.strip().split(": ")[0] for row in rows] == [f"{path}:1", f"{path}:3", f"{path}:4"]
    assert all(row.endswith(".") for row in rows)
    assert [row["refused"] for row in refusal.value.details["refusals"]] == ["index", "source", "source"]
    assert missing_tensorflow(refusal.value).message.endswith(
        "\nNo line names TensorFlow: add one such as tensorflow==2.8.0, or set tensorflow_version."
    )


def test_a_refused_line_for_tensorflow_is_not_missing(tmp_path: Path) -> None:
    path = write(tmp_path, "requirements.txt", b"https://example.org/tensorflow-2.8.0-cp39-none-any.whl\n")
    with pytest.raises(StackError) as refusal:
        read_requirements(path)
    assert missing_tensorflow(refusal.value) is refusal.value


def test_a_file_that_is_included_twice_is_refused_once(tmp_path: Path) -> None:
    write(tmp_path, "more.txt", b"--no-index\n")
    path = write(tmp_path, "requirements.txt", b"-r more.txt\n-r more.txt\n")
    with pytest.raises(StackError) as refusal:
        read_requirements(path)
    assert refusal.value.message.startswith(f"{tmp_path}/more.txt:1: found --no-index.")
