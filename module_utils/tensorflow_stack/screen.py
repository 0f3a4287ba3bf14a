"""Text for a screen: its width, and lines that fit it without a break inside a word."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Mapping
from typing import IO, Any

# Narrower screens are not served: no table fits them.
_LEAST = 40
# Of an error, with the line that names its log.
ERROR_LINES = 5
# Of a list in an error.
_MOST_ROWS = 30
# Characters of a line that nobody folds.
_UNFOLDED = 400
_CUT = " ... "
# A last sentence that says what did not happen.
_STATE = re.compile(r"(?:Nothing|No \w+) (?:was|were) [a-z]+\.")
# What Ansible says of every command that fails, alone or in a sentence.
_OF_A_COMMAND = "non-zero return code"
# What Ansible says if Python ended before it could print a result.
_NO_RESULT = "Module result deserialization failed"
_NO_SPACE = re.compile(r".*\[Errno 28\] No space left on device")
_FULL = "Free some space in the directory for temporary files (TMPDIR or /tmp) and in ~/.ansible/tmp."


def short_name(action: str) -> str:
    """Of a module or action: that of a collection is called by a name which begins with the collection's."""
    return action.rpartition(".")[2]


def columns(environ: Mapping[str, str], stream: IO[str]) -> int | None:
    """The width to fold text to: COLUMNS, else the terminal's. None without one, so that a log can be searched."""
    wish = environ.get("COLUMNS", "")
    if re.fullmatch("[0-9]{1,9}", wish) and int(wish):
        return max(_LEAST, int(wish))
    try:
        return max(_LEAST, os.get_terminal_size(stream.fileno()).columns or 80)
    except (OSError, ValueError):
        return None


def fold(text: str, width: int | None, *, indent: str = "") -> list[str]:
    """The lines of a text, each folded to the width; what continues a line is indented. Words stay whole."""
    lines = []
    for line in text.split("\n"):
        if width is None or len(line) <= width:
            lines.append(line)
            continue
        own = line[: len(line) - len(line.lstrip())]
        lines += textwrap.wrap(
            line,
            width,
            subsequent_indent=own + indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def shorten_error(text: str, width: int | None, *, lines: int) -> tuple[list[str], bool]:
    """An error in at most so many lines, and whether something was left out.

    That nothing was changed is left out first. The last sentence stays, because it says what to set; the text before it
    is cut. A list, whose rows are indented, comes on top of these lines: each row is a fault of its own.
    """
    rows = [line for line in text.split("\n") if line.startswith("  ")]
    if rows:
        head, _, rest = text.partition("\n" + rows[0])
        tail = "\n".join(line for line in rest.split("\n") if line.strip() and not line.startswith("  "))
        first, is_head_cut = shorten_error(head, width, lines=lines - 1)
        last, is_tail_cut = shorten_error(tail, width, lines=max(lines - len(first), 1)) if tail else ([], False)
        more = [f"  and {len(rows) - _MOST_ROWS} more"] if len(rows) > _MOST_ROWS else []
        shown = [part for row in rows[:_MOST_ROWS] for part in fold(row, width, indent="  ")]
        return [*first, *shown, *more, *last], is_head_cut or is_tail_cut or bool(more)
    whole = fold(text.strip(), width, indent="  ")
    room = (width or _UNFOLDED) * lines
    if len(whole) <= lines and (width or len(text) <= room):
        return whole, False
    sentences = re.split(r"(?<=[.:;])\s+", " ".join(text.split()))
    while len(sentences) > 1 and _STATE.fullmatch(sentences[-1]):
        sentences.pop()
    advice = sentences.pop() if len(sentences) > 1 and len(sentences[-1]) < room // 2 else ""
    for count in range(len(sentences), 0, -1):
        folded = fold(" ".join(sentences[:count]) + _CUT + advice, width, indent="  ")
        if len(folded) <= lines and (width or len(folded[0]) <= room):
            return folded, True
    start = " ".join(sentences)[: room - len(advice) - len(_CUT) - 2 * lines].rsplit(" ", 1)[0]
    folded = fold(start + _CUT + advice, width, indent="  ")
    while len(folded) > lines and " " in start:
        start = start.rsplit(" ", 1)[0]
        folded = fold(start + _CUT + advice, width, indent="  ")
    return folded, True


def message_of(said: Mapping[str, Any]) -> str:
    """What a failed task says of its failure, without what Ansible puts before it."""
    if "censored" in said:
        return str(said["censored"])
    if _OF_A_COMMAND in str(said.get("msg")) and said.get("cmd"):
        return _error_of_command(said)
    if _NO_RESULT in str(said.get("msg")):
        return _end_of_module(said)
    text = str(said.get("msg") or said.get("reason") or said.get("stderr") or "it gave no reason")
    for start in ("Task failed: ", "Action failed: ", "Module failed: "):
        text = text[len(start) :] if text.startswith(start) else text
    return _with_place(text.strip())


def _with_place(text: str) -> str:
    """An error of a full disk that does not say which: only what Ansible writes for itself has no name."""
    return f"{text}. {_FULL}" if _NO_SPACE.fullmatch(text) else text


def _end_of_module(said: Mapping[str, Any]) -> str:
    """What Python said last on the node, which Ansible's message leaves out."""
    names = ("module_stdout", "module_stderr")
    printed = [line.strip() for name in names for line in str(said.get(name, "")).splitlines()]
    last = next((line for line in reversed(printed) if line), "it printed nothing")
    return _with_place(f"The module ended with {said.get('rc')} and without a result: {last}")


def _error_of_command(said: Mapping[str, Any]) -> str:
    """What it printed last, which Ansible's message leaves out."""
    command = said["cmd"]
    program = command.split()[0] if isinstance(command, str) else str(command[0])
    printed = [line.strip() for name in ("stdout", "stderr") for line in str(said.get(name, "")).splitlines()]
    last = next((line for line in reversed(printed) if line), "it printed nothing")
    return f"{program} ended with {said.get('rc')}: {last}"


def rows_of(cells: list[tuple[str, ...]], width: int | None, *, least: int = 30) -> list[str]:
    """A table whose last column is prose: folded within its column, or, if that is narrow, below its row."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]) - 1)]
    start = sum(widths) + 2 * len(widths)
    least = max([least, *(len(word) for row in cells for word in row[-1].split())])
    lines = []
    for number, row in enumerate(cells):
        head = "  ".join(cell.ljust(size) for cell, size in zip(row, widths))
        prose = row[-1]
        if width is None or start + max(len(other[-1]) for other in cells) <= width:
            lines.append(f"{head}  {prose}".rstrip())
        elif width - start >= least:
            first, *more = fold(prose, width - start)
            lines.append(f"{head}  {first}".rstrip())
            lines += [" " * start + line for line in more]
        else:
            below = " " * (widths[0] + 2)
            lines.append(head.rstrip())
            # The heading of the last column would stand alone.
            lines += [below + line for line in fold(prose, width - len(below)) if number]
    return lines


def ranges(names: list[str], order: list[str]) -> str:
    """Names as ranges of their order: "2.4.0 to 2.4.4, 2.6.0"."""
    places = sorted(order.index(name) for name in names)
    found: list[list[int]] = []
    for place in places:
        if found and place == found[-1][-1] + 1:
            found[-1].append(place)
        else:
            found.append([place])
    return ", ".join(order[run[0]] if len(run) == 1 else f"{order[run[0]]} to {order[run[-1]]}" for run in found)


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f} MB"
