from __future__ import annotations

import pytest
from ansible.module_utils.tensorflow_stack.locking.clashes import Clash, find_clashes, nearest_requirers

ANNOTATED = """\
nvidia-nccl-cu12==2.32.3  # via -r requirements.in
nvidia-nccl-cu13==2.30.7  # via torch
torch==2.15.0             # via torchvision, -r requirements.in
torchvision==0.30.0       # via -r requirements.in
"""


def test_one_path_with_different_contents() -> None:
    files = {
        "nvidia-nccl-cu13": {"nvidia/nccl/lib/libnccl.so.2": (9, 2), "nvidia/nccl/include/nccl.h": (2, 2)},
        "nvidia-nccl-cu12": {"nvidia/nccl/lib/libnccl.so.2": (8, 1), "nvidia/nccl/include/nccl.h": (1, 1)},
        "numpy": {"numpy/__init__.py": (3, 3)},
    }
    paths = ("nvidia/nccl/lib/libnccl.so.2", "nvidia/nccl/include/nccl.h")
    [clash] = find_clashes(files)
    assert clash == Clash("nvidia-nccl-cu12", "nvidia-nccl-cu13", paths)
    assert str(clash) == "both install nvidia/nccl/lib/libnccl.so.2 and 1 more, with different contents"


@pytest.mark.parametrize(
    ("path", "first", "second", "is_one"),
    [
        ("nvidia/__init__.py", (0, 0), (0, 0), False),
        ("google/__init__.py", (52, 7), (52, 7), False),
        ("tests/__init__.py", (0, 0), (10, 7), True),
        ("same_size.py", (10, 1), (10, 2), True),
        ("cv2/__pycache__/a.cpython-311.pyc", (1, 1), (2, 2), False),
        ("../bin/tool", (1, 1), (2, 2), True),
    ],
)
def test_what_is_a_clash(path: str, first: tuple[int, int], second: tuple[int, int], is_one: bool) -> None:
    assert bool(find_clashes({"a": {path: first}, "b": {path: second}})) is is_one


def test_three_that_share_a_path_are_three_pairs() -> None:
    files = {name: {"cv2/__init__.py": (size, size)} for size, name in enumerate(("a", "b", "c"))}
    assert [(clash.first, clash.second) for clash in find_clashes(files)] == [("a", "b"), ("a", "c"), ("b", "c")]


def test_where_no_files_are_known_the_names_of_nvidia_tell() -> None:
    unread = [
        "nvidia-nccl-cu12",
        "nvidia-nccl-cu13",
        "nvidia-cudnn-cu12",
        "nvidia-cublas",
        "nvidia-cublas-cu12",
        "torch",
    ]
    [clash] = find_clashes({}, unread)
    assert (clash.first, clash.second, clash.paths) == ("nvidia-nccl-cu12", "nvidia-nccl-cu13", ())
    assert "by their names" in str(clash)


@pytest.mark.parametrize(
    ("project", "requirers"),
    [
        ("nvidia-nccl-cu12", {"nvidia-nccl-cu12"}),
        ("nvidia-nccl-cu13", {"torchvision"}),
        ("unknown", set()),
    ],
)
def test_nearest_requirers(project: str, requirers: set[str]) -> None:
    assert nearest_requirers(project, {"torchvision", "nvidia-nccl-cu12"}, ANNOTATED) == requirers
