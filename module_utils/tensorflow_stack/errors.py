"""The one family of errors of this project."""

from __future__ import annotations

from typing import Any, Sequence


class StackError(Exception):
    """Says what was asked, what was found and what to set.

    `details` become keys of the failed module's result; they hold data (a command, a return code,
    a list of what was looked for), never secrets. `stderr` is one text: ansible-core splits it itself.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


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
