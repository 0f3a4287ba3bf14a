from __future__ import annotations

import pytest
from ansible.module_utils.tensorflow_stack.packages.versionlock import (
    allows,
    is_for,
    read_locks,
    render_automatic,
    render_lock,
    split_version,
    with_block,
    without_block,
)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("8.1.0.77-1.cuda11.2", ("0", "8.1.0.77", "1.cuda11.2")),
        ("3:535.309.01-1.el8", ("3", "535.309.01", "1.el8")),
        ("1.2-rc1-1", ("0", "1.2-rc1", "1")),
    ],
)
def test_parts_of_a_version(version: str, expected: tuple[str, str, str]) -> None:
    assert split_version(version) == expected


def test_locks_of_a_list() -> None:
    assert read_locks("# added by hand\n\nvim-0:8-1.*\n  !emacs-0:1-1.*  \n") == ["vim-0:8-1.*", "!emacs-0:1-1.*"]


def test_lines_of_versionlock() -> None:
    assert render_lock("libcudnn8", "8.1.0.77-1.cuda11.2") == "libcudnn8-0:8.1.0.77-1.cuda11.2.*"
    assert render_lock("libcuda:i686", "3:535.309.01-1.el8") == "libcuda-3:535.309.01-1.el8.i686"


@pytest.mark.parametrize(
    ("line", "is_locked", "is_allowed"),
    [
        ("libcudnn8-0:8.1.0.77-1.cuda11.2.*", True, True),
        ("libcudnn8-8.1.0.77-1.cuda11.2.*", True, True),
        ("libcudnn8-0:8.6.0.163-1.cuda11.8.*", True, False),
        ("libcudnn8-8.1.*", True, True),
        ("libcudnn8", True, True),
        ("!libcudnn8-0:8.1.0.77-1.cuda11.2.*", True, False),
        ("!libcudnn8-0:8.6.0.163-1.cuda11.8.*", True, True),
        ("libcudnn8-dev-0:8.6.0.163-1.cuda11.8.*", False, False),
        ("libcudnn*", True, True),
    ],
)
def test_lock_of_somebody_else(line: str, is_locked: bool, is_allowed: bool) -> None:
    assert is_for(line, "libcudnn8") is is_locked
    if is_locked:
        assert allows(line, "libcudnn8", "8.1.0.77-1.cuda11.2") is is_allowed


def test_block_keeps_its_place() -> None:
    first = with_block("vim-0:8-1.*", ["a"])
    assert first.startswith("vim-0:8-1.*\n#") and "\na\n" in first
    appended = first + "emacs-0:1-1.*\n"
    second = with_block(appended, ["b"])
    assert second == appended.replace("\na\n", "\nb\n") and with_block(second, ["b"]) == second
    assert without_block(second) == "vim-0:8-1.*\nemacs-0:1-1.*\n" == with_block(second, [])


def test_exclusion_of_dnf_automatic_keeps_what_others_exclude() -> None:
    foreign = (
        "[commands]\napply_updates = yes\n\n[base]\nexcludepkgs = kernel*, vim\ndebuglevel = 1\n\n[email]\nto = root\n"
    )
    text = render_automatic(foreign, ["libcudnn8"])
    assert "\ndebuglevel = 1\n# tensorflow-gpu-stack begin" in text
    assert "\nexcludepkgs = kernel*, vim, libcudnn8\n" in text and text.endswith("\n\n[email]\nto = root\n")
    assert render_automatic(text, ["libcudnn8"]) == text and render_automatic(text, []) == foreign
    assert render_automatic("[commands]\n", ["a"]).startswith("[commands]\n\n[base]\n# tensorflow-gpu-stack begin")
