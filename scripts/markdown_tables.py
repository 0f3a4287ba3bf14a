"""Tables and text of Markdown."""

from __future__ import annotations

from collections.abc import Iterable


def table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [titles, ("---",) * len(titles), *(tuple(map(cell, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(text: str) -> str:
    """Text in a table of Markdown: a bar would end the cell, and `<name>` outside of code be taken for HTML."""
    return outside_code(text.replace("|", "\\|"))


def outside_code(text: str) -> str:
    """`<name>` outside of code would be taken for HTML."""
    parts = text.split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))
