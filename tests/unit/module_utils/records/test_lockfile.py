from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import LockError
from ansible.module_utils.tensorflow_stack.records.lockfile import (
    Distribution,
    Lock,
    LockedConstraint,
    lock_path,
    parse_lock,
    read_lock,
    render_lock,
    write_lock,
)

LOCK = Lock(
    release="2.8.0",
    python="3.10",
    platform="linux_x86_64",
    flavour="cpu",
    requirements=("keras==2.8.0", "numpy<2,>=1.20", "tensorflow==2.8.0"),
    constraints=(LockedConstraint("protobuf<3.21", "TypeError: Descriptors cannot not be created directly (1)"),),
    inputs_sha256="1" * 64,
    cutoff="2026-11-22T00:00:00Z",
    distributions=(
        Distribution("absl-py", "2.5.1", ("a" * 64,), 137673),
        Distribution("wrapt", "2.5.2+local.1", ("b" * 64, "c" * 64), 231522),
    ),
)
TEXT = render_lock(LOCK)


def test_round_trip() -> None:
    assert parse_lock(TEXT, path="lock.txt") == LOCK
    assert parse_lock(TEXT, path="lock.txt").text == TEXT


def test_layout() -> None:
    body = (
        f"absl-py==2.5.1 --hash=sha256:{'a' * 64} # 137673 bytes\n"
        f"wrapt==2.5.2+local.1 --hash=sha256:{'b' * 64} --hash=sha256:{'c' * 64} # 231522 bytes\n"
    )
    assert (
        "# TensorFlow 2.8.0 for CPython 3.10, linux_x86_64, cpu\n"
        "# made by: playbooks/lock.yml (do not edit)\n"
        "# release: 2.8.0\n"
        "# python: 3.10\n"
        "# platform: linux_x86_64\n"
        "# flavour: cpu\n"
        "# requirements: keras==2.8.0, numpy<2,>=1.20, tensorflow==2.8.0\n"
        "# constraint: protobuf<3.21 (TypeError: Descriptors cannot not be created directly (1))\n"
        f"# inputs_sha256: {'1' * 64}\n"
        "# cutoff: 2026-11-22T00:00:00Z\n"
        f"# body_sha256: {hashlib.sha256(body.encode()).hexdigest()}\n" + body
    ) == TEXT


def test_what_is_built_from_source() -> None:
    source = Distribution("wrapt", "1.12.1", ("d" * 64,), 27488, from_source=True)
    tool = Distribution("setuptools", "59.6.0", ("e" * 64,), 952597)
    lock = replace(LOCK, distributions=(source,), built_with=(tool,))
    assert (
        f"# built with: setuptools==59.6.0 --hash=sha256:{'e' * 64} # 952597 bytes\n"
        f"wrapt==1.12.1 --hash=sha256:{'d' * 64} # 27488 bytes, from source\n"
    ) in lock.text
    assert parse_lock(lock.text, path="lock.txt") == lock
    assert lock.from_source == ("wrapt",)
    assert lock.packages == {"wrapt": "1.12.1"}
    assert lock.sha256 != replace(lock, built_with=()).sha256


def test_properties() -> None:
    assert LOCK.total_bytes == 137673 + 231522
    assert LOCK.packages == {"absl-py": "2.5.1", "wrapt": "2.5.2+local.1"}
    assert LOCK.sha256 == replace(LOCK, cutoff="2027-01-01T00:00:00Z", constraints=()).sha256
    assert LOCK.sha256 != replace(LOCK, distributions=LOCK.distributions[:1]).sha256


def test_unknown_header_key_is_tolerated() -> None:
    text = TEXT.replace("# cutoff:", "# colour: blue\n# cutoff:")
    assert parse_lock(text, path="lock.txt") == LOCK


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        pytest.param("", 1, "not a lock", id="empty"),
        pytest.param("numpy==1.23.5\n", 1, "not a lock", id="requirements"),
        pytest.param(TEXT[: TEXT.index("# cutoff")], 1, "not a lock", id="cut in the header"),
        pytest.param(TEXT.replace("# platform: linux_x86_64\n", ""), 1, "lacks platform", id="key missing"),
        pytest.param(TEXT.replace("# cutoff", "# release: 2.9.0\n# cutoff"), 10, "'release' twice", id="key twice"),
        pytest.param(
            TEXT.replace(" (TypeError: ", " TypeError: ").replace("(1))", "1"),
            8,
            "a constraint is",
            id="constraint",
        ),
        pytest.param(TEXT[: TEXT.index("absl")], 12, "no distribution", id="cut before the body"),
        pytest.param(TEXT[: TEXT.index("wrapt")], 11, "truncated or edited", id="cut between lines"),
        pytest.param(TEXT[:-30], 13, "not a line of a lock", id="cut in a line"),
        pytest.param(TEXT.replace("2.5.1", "2.5.0"), 11, "truncated or edited", id="version edited"),
        pytest.param(TEXT.replace("a" * 64, "d" * 64), 11, "truncated or edited", id="hash edited"),
        pytest.param(TEXT.replace(f" --hash=sha256:{'a' * 64}", ""), 12, "absl-py has no --hash", id="no hash"),
        pytest.param(TEXT.replace("wrapt", "absl-py"), 13, "listed twice, first in line 12", id="duplicate"),
        pytest.param(TEXT + "-e git+https://x/y\n", 14, "not a line of a lock", id="smuggled option"),
    ],
)
def test_refusals(text: str, line: int, found: str) -> None:
    with pytest.raises(LockError) as refusal:
        parse_lock(text, path="locks/lock.txt")
    assert refusal.value.message.startswith(f"locks/lock.txt:{line}: ")
    assert found in refusal.value.message
    assert "playbooks/lock.yml" in refusal.value.message


def test_lock_path() -> None:
    path = lock_path("locks", release="2.8.0", python="3.10", platform="linux_x86_64", flavour="cpu")
    assert path == "locks/tensorflow-2.8.0/cp310-linux_x86_64-cpu.txt"


def test_write_and_read(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "lock.txt"
    assert read_lock(str(path)) is None
    write_lock(str(path), replace(LOCK, cutoff="2025-01-01T00:00:00Z"))
    write_lock(str(path), LOCK)
    assert read_lock(str(path)) == LOCK
    assert path.read_text() == TEXT
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == ["lock.txt"]


def test_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lock.txt"
    path.write_bytes(b"# \xff\x00\n")
    with pytest.raises(LockError, match="not a lock"):
        read_lock(str(path))


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(LockError, match=r"cannot be read: is a directory, not a regular file. Make it a readable file"):
        read_lock(str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(LockError, match=r"cannot be written: Not a directory.*or set tensorflow_lock_directory"):
        write_lock(str(tmp_path / "file" / "below" / "lock.txt"), LOCK)
