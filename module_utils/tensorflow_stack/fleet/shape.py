"""Whether a node of `fleet.json` has the types that everything that reads it relies on. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .entries import VERDICTS
from .summary import STATES

_TEXT: Any = (str, type(None))
_REFUSAL = {"component": str, "wanted": _TEXT, "found": _TEXT, "set": _TEXT, "message": str}
_COMPONENT = {"component": str, "verdict": VERDICTS, "drift": [str], "found": _TEXT, "wanted": _TEXT}
_COMPONENT |= {"action": _TEXT, "source": _TEXT}
_ENVIRONMENT = {
    **{name: _TEXT for name in ("name", "release", "flavour", "path", "action", "verdict", "reason", "checked_at")},
    "changed": bool,
    "succeeded": bool,
    "causes": [{"cause": str, "component": str, "says": str, "do": str}],
    "refusals": [_REFUSAL],
    "components": [_COMPONENT],
}
_NODE = {"host": str, "state": tuple(STATES), "error": _TEXT, "environments": [_ENVIRONMENT]}


def is_node(value: Any) -> bool:
    return _fits(value, _NODE)


def is_environment(value: Any) -> bool:
    return _fits(value, _ENVIRONMENT)


def _fits(value: Any, shape: Any) -> bool:
    """`shape` is a type, several of them, the texts that may be there, a list with one shape, or a mapping of them."""
    if isinstance(shape, Mapping):
        return isinstance(value, dict) and all(key in value and _fits(value[key], one) for key, one in shape.items())
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(item, shape[0]) for item in value)
    if isinstance(shape, tuple) and isinstance(shape[0], str):
        return isinstance(value, str) and value in shape
    return isinstance(value, shape)
