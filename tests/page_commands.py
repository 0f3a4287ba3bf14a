"""The commands of the pages for users, as they are written there. tests/data/page_commands.yml has what runs each."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "roles/*/README.md", "tests/**/README.md", "examples/**/*.md")
    for path in REPOSITORY.glob(pattern)
    if path.name != "CHANGELOG.md"  # made from fragments, with nested lists
)
# What a block of commands begins with, after variables. A block of no language may as well be a program's output.
PROGRAMS = r"(?:\.venv/bin/|/\S+/bin/)?(?:make|python3?|ansible[\w-]*|awx|git|su|bash|curl|podman)"
COMMAND = re.compile(rf"^(?:[A-Z_]+=(?:\"[^\"]*\"|\S*) )*{PROGRAMS}\s")
BLOCK = re.compile(
    r"^```(?P<language>\w*)\n(?P<fenced>.*?)^```$|(?P<indented>(?:^ {4}[^ \n][^\n]*\n(?:^ {5,}[^\n]*\n)*)+)",
    re.MULTILINE | re.DOTALL,
)
SHELLS = ("sh", "bash", "shell", "console")


class Block(NamedTuple):
    page: str
    language: str  # of a fence; empty for one that is indented
    text: str

    @property
    def commands(self) -> list[str]:
        """One a line, with the lines that continue it, and without the remark behind it."""
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        return [re.sub(r"\s+#\s.*$", "", line).strip() for line in lines if line.strip()]

    @property
    def is_commands(self) -> bool:
        return self.language in SHELLS or (not self.language and COMMAND.match(self.commands[0]) is not None)


def blocks(pages: list[Path] | None = None) -> Iterator[Block]:
    for path in PAGES if pages is None else pages:
        for match in BLOCK.finditer(path.read_text(encoding="utf-8")):
            text = (
                match["fenced"] if match["fenced"] is not None else re.sub("^ {4}", "", match["indented"], flags=re.M)
            )
            yield Block(str(path.relative_to(REPOSITORY)), match["language"] or "", text)


def commands(page: str) -> list[str]:
    """All of one page, in order."""
    return [command for block in blocks([REPOSITORY / page]) if block.is_commands for command in block.commands]


def target_of_make(command: str) -> tuple[str, dict[str, str]] | None:
    """Target and variables of a command that is one make."""
    words = shlex.split(command)
    if words[0] != "make" or len(words) < 2:
        return None
    given = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    (target,) = [word for word in words[1:] if "=" not in word]
    return target, given
