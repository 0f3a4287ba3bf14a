"""The one family of errors of this project."""

from __future__ import annotations

import re
from typing import Any, Sequence

# User and password of an address; a password may contain an @.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")


class StackError(Exception):
    """Says what was asked, what was found and what to set.

    `details` become keys of the failed module's result; they hold data (a command, a return code,
    a list of what was looked for). `stderr` is one text: ansible-core splits it itself. Credentials in an address are
    hidden in both, whoever wrote it: a line of somebody's file, a program, an option.
    """

    def __init__(self, message: str, **details: Any) -> None:
        message = hide_credentials(message)
        super().__init__(message)
        self.message = message
        self.details = {key: _without_credentials(value) for key, value in details.items()}


def hide_credentials(text: str) -> str:
    """A text without the user and password of each address in it."""
    return _CREDENTIALS.sub("", text)


def _without_credentials(value: Any) -> Any:
    if isinstance(value, str):
        return hide_credentials(value)
    if isinstance(value, dict):
        return {key: _without_credentials(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_credentials(item) for item in value]
    return value


class TableError(StackError):
    """A table of facts is missing, unreadable or breaks its schema."""


class RefusedError(StackError):
    """The wish cannot be fulfilled on this node; `details["refusals"]` holds every reason."""


class LockError(StackError):
    """A lock is missing, cut short, edited by hand, or cannot be made."""


class BuildError(StackError):
    """Building, switching or removing an environment failed; the live one was left as it was."""


class BusyError(StackError):
    """Another run holds the lock on the same environment."""


class UnwritableError(StackError, OSError):
    """A file of this toolkit cannot be written; an OSError as well, for callers to whom that is no failure."""


class NotStartedError(StackError, OSError):
    """A program cannot be started; an OSError as well, for callers to whom that is an answer."""

    def __init__(self, argv: Sequence[str], reason: str, advice: str = "Install its package.") -> None:
        message = f"{argv[0]} cannot be started: {reason}. {advice}"
        super().__init__(message, cmd=list(argv))
        self.reason = reason


class TimedOutError(StackError):
    """A program did not end in its time, and was ended."""

    def __init__(self, argv: Sequence[str], seconds: float, setting: str, output: str = "") -> None:
        last = output.rstrip().rpartition("\n")[2][-300:]
        said = f" It last printed: {last}." if last else ""
        longer = f", or raise {setting}" if setting else ""
        super().__init__(
            f"{' '.join(argv[:3])} did not end within {seconds:g} s and was stopped.{said} Find out what it waits for"
            f"{longer}, and run again.",
            cmd=list(argv),
        )
