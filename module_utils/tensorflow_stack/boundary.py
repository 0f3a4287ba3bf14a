"""The boundary of each module and action: an error that no code expected ends as a message and a log, not a traceback.

Runs on nodes and on the controller (Python 3.7).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import pwd
import re
import traceback
from typing import Any, Callable, Iterator, Tuple, Type

from .errors import StackError, hide_credentials
from .io.writing import write_text

_LOGS = os.path.join(".local", "state", "tensorflow-gpu-stack")
_LONGEST = 500
Run = Callable[..., "dict[str, Any]"]


def failure(error: Exception, name: str) -> dict[str, Any]:
    """The keys of a failed result of the module or action `name`; an error that is not ours gets a log as well."""
    if isinstance(error, StackError):
        return {"msg": error.message, **error.details}
    said = _readable(f"{type(error).__name__}: {error}")
    log, place = _write_log(error, name), _place(error)
    if isinstance(error, OSError):
        return {"msg": f"{name} could not finish ({place}): {said}. Correct the cause and run again. {log}"}
    return {
        "msg": f"{name} met something that it does not expect ({place}): {said}. It stopped there. "
        f"This is a fault of the TensorFlow GPU Stack. {log} Please report it with that text; "
        'docs/troubleshooting.md says how, in "Reporting a fault".'
    }


@contextlib.contextmanager
def failing_by_message(module: Any) -> Iterator[None]:
    """What is raised inside is the message with which an AnsibleModule fails."""
    try:
        yield
    except Exception as error:  # this is the boundary
        module.fail_json(**failure(error, module._name or "The module"))


def failing_by_result(name: str, passing: Tuple[Type[Exception], ...]) -> Callable[[Run], Run]:
    """For the `run` of the action `name`; `passing` are Ansible's own errors, which it shows itself."""

    def decorate(run: Run) -> Run:
        @functools.wraps(run)
        def bounded(*arguments: Any, **named: Any) -> dict[str, Any]:
            try:
                return run(*arguments, **named)
            except passing:
                raise
            except Exception as error:  # this is the boundary
                return {"failed": True, **failure(error, name)}

        return bounded

    return decorate


def _write_log(error: Exception, name: str) -> str:
    """Write the traceback into a file of this user, the same file each time, and say where it is."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    text = hide_credentials(text).encode("utf-8", "backslashreplace").decode("utf-8")
    digest = hashlib.sha256(f"{type(error).__name__} {_place(error)}".encode("utf-8", "replace")).hexdigest()[:8]
    try:
        # Not by HOME, which behind sudo may be the directory of another user.
        directory = os.path.join(pwd.getpwuid(os.geteuid()).pw_dir, _LOGS)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        path = os.path.join(directory, f"{re.sub('[^A-Za-z_]+', '_', name)}-{digest}.log")
        write_text(path, text, mode=0o600)
    except (OSError, KeyError):
        last = _readable(" < ".join(reversed(_frames(error)[-8:])))
        return f"No log can be written on {platform.node()}; the error came by {last}."
    return f"The traceback is in {path} on {platform.node()}."


def _place(error: Exception) -> str:
    frames = _frames(error)
    return frames[-1] if frames else "at an unknown place"


def _frames(error: Exception) -> list[str]:
    """File and line of each call; of this toolkit's files the path inside of it."""
    found = []
    for frame in traceback.extract_tb(error.__traceback__):
        _, ours, inside = frame.filename.rpartition("/tensorflow_stack/")
        found.append(f"{inside if ours else os.path.basename(frame.filename)}:{frame.lineno}")
    return found


def _readable(text: str) -> str:
    text = hide_credentials(text)[:_LONGEST].rstrip(".")
    return "".join(character if character.isprintable() else "?" for character in text)
