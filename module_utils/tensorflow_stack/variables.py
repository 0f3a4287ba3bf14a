"""The variables that make, playbooks and roles know: names that are nearly theirs, and values by their types."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import StackError

ON = ("true", "yes", "on", "1", "y", "t")
OFF = ("false", "no", "off", "0", "n", "f")
# A URL, or a path on the controller and the nodes.
PLACES = ("stack_bundle_url", "tensorflow_image")
_URL = re.compile("(https?|file)://.")
# Of difflib. `verison` and `version` are at 0.86, `port` and `root` at 0.5.
_ALIKE = 0.8
# Ends of the names of variables that are addresses.
_ADDRESSES = ("_url", "_mirror", "python_downloads", "interpreter_downloads")


def read_variables(path: str) -> dict[str, dict[str, Any]]:
    """What playbooks/variables.json says of each variable: type, elements, choices, playbook."""
    with open(path, encoding="utf-8") as stream:
        variables: dict[str, dict[str, Any]] = json.load(stream)
    return variables


def nearest(name: str, known: Iterable[str], *, alike: float = 0.6) -> str | None:
    """The known name that is most like this one, whatever the case of its letters."""
    lowered = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=alike)
    return lowered[found[0]] if found else None


def misspelt(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Each name that is not known, and yet can only be meant for a known one: that one.

    The words in which the two differ have to be alike: `tensorflow_verison` is meant for `tensorflow_version`, and
    `tensorflow_port` is somebody's own.
    """
    known = set(known)
    found = {}
    for name in names:
        if name in known:
            continue
        meant = nearest(name, known, alike=_ALIKE)
        if meant and _is_alike(name.lower().split("_"), meant.lower().split("_")):
            found[name] = meant
    return found


def _is_alike(words: list[str], others: list[str]) -> bool:
    while words and others and words[0] == others[0]:
        words, others = words[1:], others[1:]
    while words and others and words[-1] == others[-1]:
        words, others = words[:-1], others[:-1]
    # Nothing is left of names that differ in the case of their letters.
    one, other = "_".join(words), "_".join(others)
    # Two letters that changed places, or one too few or too many, weigh much in a short word.
    if sorted(one) == sorted(other) or other in _one_letter_less(one) or one in _one_letter_less(other):
        return True
    return difflib.SequenceMatcher(None, one, other).ratio() >= _ALIKE


def _one_letter_less(word: str) -> set[str]:
    return {word[:place] + word[place + 1 :] for place in range(len(word))}


def parse(name: str, text: str, variable: Mapping[str, Any]) -> Any:
    """The value of its type that a text stands for. Raises StackError, with the type and the text."""
    kind, choices = variable["type"], variable.get("choices")
    if kind == "bool":
        if text.lower() not in ON + OFF:
            raise _malformed(name, text, "true or false")
        return text.lower() in ON
    if kind == "int":
        # By [0-9]: int() takes blanks, underscores and the digits of every script.
        if not re.fullmatch("[0-9]{1,18}", text):
            raise _malformed(name, text, "a whole number, 0 or more")
        return int(text)
    if kind == "list":
        return _parse_list(name, text, choices)
    if kind == "dict":
        raise StackError(f"{name} is a mapping, which make does not accept. Set it in an inventory.")
    if choices and text not in choices:
        raise _malformed(name, text, "one of " + ", ".join(choices))
    if name.endswith(_ADDRESSES):
        _refuse_credentials(name, text)
    if name in PLACES:
        return parse_place(name, text)
    if name.endswith("_url") and not _URL.match(text):
        raise _malformed(name, text, "an http, https or file URL")
    return os.path.abspath(os.path.expanduser(text)) if kind == "path" else text


def parse_place(name: str, text: str) -> str:
    """A URL or an absolute path."""
    if not os.path.isabs(text) and not _URL.match(text):
        raise _malformed(name, text, "an http, https or file URL, or an absolute path")
    return text


def _parse_list(name: str, text: str, choices: list[str] | None) -> list[str]:
    if text.lstrip().startswith("["):
        try:
            items = json.loads(text)
        except (ValueError, RecursionError):
            items = None
    else:
        items = [item.strip() for item in text.split(",")]
    if not isinstance(items, list) or not all(isinstance(item, str) and item for item in items):
        raise _malformed(name, text, "a list, such as a,b")
    for item in items:
        if choices and item not in choices:
            raise _malformed(name, item, "one of " + ", ".join(choices) + ", or several, with commas")
    return items


def _refuse_credentials(name: str, text: str) -> None:
    """A variable is shown by make, by Ansible with -vvv, and in the list of processes."""
    _, _, rest = text.partition("://")
    if "@" in rest.partition("/")[0] or "?" in rest:
        raise StackError(
            f"{name} contains credentials or a query, which the output of every task would show. Give the address "
            "alone, and put the credentials into ~/.netrc (mode 0600) of the user who runs the tasks."
        )


def _malformed(name: str, text: str, wanted: str) -> StackError:
    return StackError(f"{name} is {text!r}, but must be {wanted}.")


def wrong_values(values: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is wrong with values as an inventory has them, in words. What a template becomes is not asked."""
    found = []
    for name in sorted(values.keys() & known.keys()):
        value, variable = values[name], known[name]
        kind = variable["type"]
        if value is None:
            found.append(f"{name} has no value (null). Set one, or leave it out.")
        elif isinstance(value, (list, dict)):
            if kind not in ("list", "dict"):
                found.append(
                    f"{name} is a {'list' if isinstance(value, list) else 'mapping'}, but must be a single value."
                )
        elif kind != "dict" and not isinstance(value, bool) and "{" not in str(value) and str(value):
            try:
                parse(name, str(value), variable)
            except StackError as error:
                found.append(error.message)
    return found


def problems(host: str, values: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each: a host that cannot name a file, misspelt variables, values that they cannot have."""
    lines = []
    if host in (".", "..") or "/" in host or "\0" in host:
        lines.append(
            f"The name of the host {host!r} cannot be the name of a file, and its report has that name. "
            "Give it another name, and set ansible_host to its address."
        )
    names = [name for name in values if isinstance(name, str) and not name.startswith("ansible_")]
    for name, meant in sorted(misspelt(names, known).items()):
        lines.append(
            f"{name} is set, but is no variable of this toolkit; {meant} is one. Correct it where it is set "
            "(inventory, group_vars, host_vars or -e). If it is one of your own, give it a less similar name."
        )
    return [*lines, *wrong_values(values, known)]
