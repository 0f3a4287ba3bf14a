"""Prose says `install` and `if`: the word list of CONTRIBUTING.md, as far as a regular expression finds it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.plugin_docs import read_docstring

REPOSITORY = Path(__file__).resolve().parents[2]
TABLES = REPOSITORY / "roles" / "tensorflow_release" / "files" / "tables"

# What is found, and what to write instead. Only what has no other meaning in this repository.
PATTERNS = {
    r"(?:lies|lie|lay|laid)\b": "is in, is next to, unpack",
    r"stands? (?:in|at|on|beside|between|below|above|there)\b": "is in",
    r"comes? (?:along|there)\b": "is installed, is included",
    r"(?:bring|brings|brought)\b": "install, contain, add",
    r"(?:that|what|which) (?:is|are|was|were) (?:not |still |already )?there\b": "exists, is installed",
    r"beside\b": "next to, with",
    r"anew\b": "again",
    r"told by\b": "recognised by, or a sentence with a subject",
    r"does not do\b": "is unsuitable",
    r"(?:has|have) to be (?:had|there)\b": "must exist",
    r"(?:can|cannot|could not|is|are) (?:not )?(?:to )?be had\b": "is available, has no solution",
    r"(?:take|takes|taken) over\b": "reuse",
    r"(?:puts?|putting) back\b": "restore",
    r"mend(?:s|ed|ing)?\b": "repair",
    r"(?:wished|wishes)\b": "required, requested",
    r"leads? to\b": "points to, causes",
    r"by which that is known": "evidence",
    r"what (?:it|that) is at\b": "report progress",
    r"where (?:it|they) ha(?:s|ve) to\b": "if needed",
    r"in the way\b": "conflicting, blocking",
    r"(?:is|are|was|were) said\b": "a sentence with a subject that says it",
    r"Where (?:a|an|the|it|there|no|nothing|something|somebody|this|that|these|one|some|any|you|nobody)\b": "If",
}
FENCE = re.compile(
    r"^```.*?^```$|^ {4}\S[^\n]*$|`[^`\n]*`|\]\([^)]*\)|<!--.*?-->|https?://\S+", re.MULTILINE | re.DOTALL
)
# The words to avoid are quoted there.
WORD_LIST = re.compile(r"^## Words$.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def bad_words(text: str) -> list[str]:
    """What of PATTERNS a text of prose contains, with what to write instead. Titles and code are left out."""
    prose = re.sub(r"\s+", " ", re.sub(r"^#.*$", "", FENCE.sub(" ", text), flags=re.MULTILINE))
    found = []
    for pattern, instead in PATTERNS.items():
        # `where` is an error as the first word of a sentence alone.
        begin, flags = (r"(?:^|[.:;] )", 0) if pattern.startswith("Where") else (r"\b", re.IGNORECASE)
        for match in re.finditer(begin + pattern, prose, flags):
            found.append(f"'...{prose[max(0, match.start() - 40) : match.end() + 20]}...': write {instead}")
    return found


def strings_of(value: Any, keys: tuple[str, ...]) -> Iterator[str]:
    """The texts under these keys, at any depth."""
    if isinstance(value, list):
        for item in value:
            yield from strings_of(item, keys)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in keys and isinstance(item, (str, list)):
                yield from [item] if isinstance(item, str) else map(str, item)
            else:
                yield from strings_of(item, keys)


def texts() -> Iterator[tuple[str, str]]:
    for pattern in ("*.md", "docs/**/*.md", "roles/*/README.md", "tests/**/*.md"):
        for path in REPOSITORY.glob(pattern):
            yield str(path.relative_to(REPOSITORY)), WORD_LIST.sub("", path.read_text(encoding="utf-8"))
    for path in REPOSITORY.glob("library/*.py"):
        documentation = read_docstring(str(path), verbose=False)
        said = strings_of(
            [documentation["doc"], documentation["returndocs"]], ("description", "short_description", "notes")
        )
        yield str(path.relative_to(REPOSITORY)), "\n".join(said)
    for path in REPOSITORY.glob("roles/*/meta/argument_specs.yml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        yield str(path.relative_to(REPOSITORY)), "\n".join(strings_of(content, ("description", "short_description")))
    for path in REPOSITORY.glob("roles/*/defaults/main.yml"):
        comments = re.findall(r"^# (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        yield str(path.relative_to(REPOSITORY)), "\n".join(comments)
    rows = yaml.safe_load((TABLES / "diagnoses.yml").read_text(encoding="utf-8"))["rows"]
    yield "diagnoses.yml", "\n".join(strings_of(rows, ("says", "do", "container", "wsl")))
    yield "Makefile", "\n".join(re.findall(r"## (.*)$", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE))


TEXTS = dict(texts())


@pytest.mark.parametrize("name", TEXTS)
def test_plain_words(name: str) -> None:
    assert bad_words(TEXTS[name]) == []


class TestChecker:
    """It sees what it is there for, and nothing else."""

    @pytest.mark.parametrize(
        "text",
        [
            "The lock lies in a directory.",
            "It keeps what is there.",
            "The driver that is\nthere does not do.",
            "The role brings a key.",
            "Where a driver is missing, the run stops.",
            "Told by: a line.",
            "It cannot be had.",
        ],
    )
    def test_a_sentence_to_rewrite(self, text: str) -> None:
        assert bad_words(text) != []

    @pytest.mark.parametrize(
        "text",
        [
            "The environment is in a directory, and there is a lock.",
            "Where to get a driver.",
            "Besides, an underlying error may bring_up nothing.",
            "`what lies beside`\n\n    make anew\n\n[a page](lies-beside.md)",
        ],
    )
    def test_a_good_one(self, text: str) -> None:
        assert bad_words(text) == []

    def test_the_word_list_is_not_read(self) -> None:
        assert WORD_LIST.sub("", "a\n## Words\nwhat lies beside\n## Next\nb\n") == "a\n## Next\nb\n"

    def test_texts_of_every_kind(self) -> None:
        names = ("README.md", "library/nvidia_packages.py", "roles/cudnn/meta/argument_specs.yml")
        for name in (*names, "roles/cudnn/defaults/main.yml", "diagnoses.yml", "Makefile"):
            assert " the " in TEXTS[name]
