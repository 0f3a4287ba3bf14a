"""Requirements as words of one text: what make's PACKAGES= takes, and what it refuses."""

from __future__ import annotations

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.requirements.words import read_names, read_words


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("pandas ipykernel", ["ipykernel", "pandas"]),
        ("pandas<3,ipykernel", ["ipykernel", "pandas<3"]),
        ("pandas, ipykernel", ["ipykernel", "pandas"]),
        ("pandas >= 2, < 3 jupyter[all,test]", ["jupyter[all,test]", "pandas<3,>=2"]),
        ("a\n b\tc", ["a", "b", "c"]),
        ("pandas pandas", ["pandas"]),
        ("", []),
    ],
)
def test_words(text: str, lines: list[str]) -> None:
    assert read_words(text, "PACKAGES") == lines


@pytest.mark.parametrize(
    "text",
    [
        "git+https://example.org/x",
        "x @ https://example.org/x.whl",
        "https://example.org/x.whl",
        "./x.whl",
        "/home/me/x",
        "-e .",
        "--index-url=http://example.org",
        "-r requirements.txt",
        "x;python_version<'3'",
        "x; id",
        "$(id)",
        "`id`",
        "x===1",
        "x==99999999999999999999999",
        "{{ x }}",
        "x\0y",
        "(" * 4000,
    ],
)
def test_anything_else_is_refused_in_one_message(text: str) -> None:
    with pytest.raises(StackError, match="PACKAGES is .*, but must be names of packages with or without") as caught:
        read_words(text, "PACKAGES")
    assert len(caught.value.message.splitlines()) == 1 and len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tensorflow==2.15.1", "an environment has one TensorFlow"),
        ("tf-nightly", "an environment has one TensorFlow"),
        ("pandas<3 Pandas", "pandas twice: pandas<3 and Pandas"),
    ],
)
def test_what_cannot_be_meant(text: str, message: str) -> None:
    with pytest.raises(StackError, match=message):
        read_words(text, "PACKAGES")


def test_names() -> None:
    assert read_names("Pandas, scikit_learn", "REMOVE") == ["pandas", "scikit-learn"]
    with pytest.raises(StackError, match="but takes names alone"):
        read_names("pandas<3", "REMOVE")
