from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.check.cpu import read_cpu
from ansible.module_utils.tensorflow_stack.check.kept_logs import keep_check_log, kept_text


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    (path / ".builds").mkdir(parents=True)
    return path


def test_the_logs_of_an_environment_are_read(root: Path) -> None:
    (root / ".builds" / "mine.log").write_text("from the build")
    (root / ".builds" / "other.log").write_text("of another one")
    keep_check_log(str(root), "mine", "from the check")
    assert kept_text(str(root), "mine") == "from the build\nfrom the check"


def test_a_good_check_takes_the_log_of_a_bad_one_away(root: Path) -> None:
    keep_check_log(str(root), "mine", "bad")
    keep_check_log(str(root), "mine", None)
    keep_check_log(str(root), "mine", None)
    assert list((root / ".builds").iterdir()) == []


def test_the_check_of_another_build_does_not_count(root: Path) -> None:
    keep_check_log(str(root), "mine", "from the check of the build before")
    os.utime(root / ".builds" / "mine.check", (1e9, 1e9))
    (root / "mine").symlink_to(".builds/mine.2")
    assert kept_text(str(root), "mine") == ""
    os.utime(root / "mine", (1e9 - 1, 1e9 - 1), follow_symlinks=False)
    assert kept_text(str(root), "mine") == "from the check of the build before"


def test_without_a_name_the_last_build_counts(root: Path) -> None:
    for age, name in ((100, "old"), (1, "new"), (50, "older")):
        (root / ".builds" / f"{name}.log").write_text(name)
        os.utime(root / ".builds" / f"{name}.log", (1e9 - age, 1e9 - age))
    assert kept_text(str(root), None) == "new"


def test_no_link_is_followed_and_nothing_blocks(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (root / ".builds" / "mine.log").symlink_to(tmp_path / "secret")
    os.mkfifo(root / ".builds" / "mine.check")
    assert kept_text(str(root), "mine") == ""
    assert kept_text(str(root), None) == ""


def test_no_more_than_the_end_is_read(root: Path) -> None:
    (root / ".builds" / "mine.log").write_text("start" + "x" * (2 << 20) + "end")
    text = kept_text(str(root), "mine")
    assert len(text) == 1 << 20
    assert text.endswith("end")


def test_what_others_may_write_is_not_read(root: Path) -> None:
    (root / ".builds" / "mine.log").write_text("text")
    root.chmod(0o777)
    assert kept_text(str(root), "mine") == ""


def test_a_root_that_may_not_be_written_is_no_failure(tmp_path: Path) -> None:
    keep_check_log(str(tmp_path / "nowhere"), "mine", "text")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu sse4_2 avx avx2 hypervisor\n", {"cpu_avx": True, "virtual": True}),
        ("flags : fpu sse4_2\nflags : fpu\n", {"cpu_avx": False, "virtual": False}),
        ("flags : fpu avx2x xavx\n", {"cpu_avx": False, "virtual": False}),
        ("Features : fp asimd\n", {}),
        (None, {}),
    ],
)
def test_the_cpu(tmp_path: Path, text: str | None, expected: dict[str, bool]) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert read_cpu(str(tmp_path / "cpuinfo")) == expected
