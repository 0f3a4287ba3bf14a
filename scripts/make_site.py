#!/usr/bin/env python3
"""Make a site of the pages, in .cache/site: every page, and every file that one links to.

A link may name a directory; on a site it leads to a page that lists it. mkdocs.yml has the rest.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = REPOSITORY / ".cache" / "site_pages"
PATTERNS = ("*.md", "docs/**/*.md", "roles/*/README.md", "tests/**/README.md")
LINK = re.compile(r"(\[[^\]]*\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    return sorted(path for pattern in PATTERNS for path in REPOSITORY.glob(pattern))


def with_links(path: Path, text: str, linked: set[Path]) -> str:
    """The text with links to directories as links to their pages. Adds each file or directory that it links to."""

    def point(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        place = path.parent / target
        if re.match(r"[a-z]+:", target) or not place.exists():
            return match[0]
        linked.add(Path(os.path.normpath(place)))
        return f"{before}{target.rstrip('/')}/README.md{after}" if place.is_dir() else match[0]

    parts = FENCE.split(text)
    return "".join(part if number % 2 else LINK.sub(point, part) for number, part in enumerate(parts))


def listing(directory: Path) -> tuple[str, list[Path]]:
    """The page of a directory that has none, and the files on it."""
    found = sorted(path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    lines = [f"- [{path.relative_to(directory)}]({path.relative_to(directory)})" for path in found]
    return f"# {directory.relative_to(REPOSITORY)}\n\n" + "\n".join(lines) + "\n", found


def write(path: Path, text: str) -> None:
    place = PAGES / path.relative_to(REPOSITORY)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")


def copy(path: Path) -> None:
    place = PAGES / path.relative_to(REPOSITORY)
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def main() -> int:
    shutil.rmtree(PAGES, ignore_errors=True)
    linked: set[Path] = set()
    for path in pages():
        write(path, with_links(path, path.read_text(encoding="utf-8"), linked))
    for path in sorted(linked):
        if path.is_dir() and not (path / "README.md").exists():
            text, files = listing(path)
            write(path / "README.md", text)
            for file in files:
                copy(file)
        elif path.is_file():
            copy(path)
    mkdocs = REPOSITORY / ".venv-site" / "bin" / "mkdocs"
    # Material says on each build what its next version will be.
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.call([mkdocs, "build", "--strict", "--clean"], cwd=REPOSITORY, env=environ)


if __name__ == "__main__":
    sys.exit(main())
