#!/usr/bin/env python3
"""A double of kubectl that keeps the state of a cluster in $KUBECTL_STATE and refuses a wrong order.

Stricter than kubectl: a node has to be cordoned before it is drained, and drained before it is uncordoned.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

STATE = Path(os.environ.get("KUBECTL_STATE", "state.json"))


def main(command: str, *words: str) -> None:
    names = [word for word in words if not word.startswith("-")]
    options = [word for word in words if word.startswith("-")]
    if command in ("get", "annotate"):
        names = names[1:]
    with STATE.open("r+") as stream:
        # Several nodes are drained at a time.
        fcntl.flock(stream, fcntl.LOCK_EX)
        state = json.load(stream)
        state["log"].append(" ".join([command, *words]))
        try:
            COMMANDS[command](state, state["nodes"][names[0]], names, options)
        finally:
            stream.seek(0)
            stream.truncate()
            json.dump(state, stream)


def get(state: dict[str, Any], node: dict[str, Any], names: list[str], options: list[str]) -> None:
    spec = {"unschedulable": True} if node["cordoned"] else {}
    print(json.dumps({"metadata": {"name": names[0], "annotations": node["annotations"]}, "spec": spec}))


def annotate(state: dict[str, Any], node: dict[str, Any], names: list[str], options: list[str]) -> None:
    word = names[1]
    if word.endswith("-"):
        node["annotations"].pop(word[:-1], None)
        return
    name, _, value = word.partition("=")
    if name in node["annotations"] and "--overwrite" not in options:
        fail(
            f"error: --overwrite is false but found the following declared annotation(s): '{name}' already has a value"
        )
    node["annotations"][name] = value


def cordon(state: dict[str, Any], node: dict[str, Any], names: list[str], options: list[str]) -> None:
    node["cordoned"] = True


def uncordon(state: dict[str, Any], node: dict[str, Any], names: list[str], options: list[str]) -> None:
    if not node["cordoned"] or not node["drained"]:
        fail(f"double: {names[0]} is uncordoned before it was cordoned and drained")
    node.update(cordoned=False, drained=False)


def drain(state: dict[str, Any], node: dict[str, Any], names: list[str], options: list[str]) -> None:
    if not node["cordoned"]:
        fail(f"double: {names[0]} is drained before it was cordoned")
    pods = {name: pod for name, pod in state["pods"].items() if pod["node"] == names[0]}
    daemons = [name for name, pod in pods.items() if pod["owner"] == "DaemonSet"]
    alone = [name for name, pod in pods.items() if pod["owner"] is None]
    if daemons and "--ignore-daemonsets" not in options:
        fail(f"error: cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): {', '.join(daemons)}")
    if alone:
        fail(f"error: cannot delete Pods that declare no controller (use --force to override): {', '.join(alone)}")
    seconds = next(float(word[10:-1]) for word in options if word.startswith("--timeout="))
    end = time.monotonic() + seconds
    for name, pod in pods.items():
        if pod["owner"] == "DaemonSet":
            continue
        # A disruption budget: so many times the eviction is refused, until another replica is ready.
        while pod["budget"]:
            pod["budget"] -= 1
            print(
                f'error when evicting pods/"{name}" (will retry after 5s): Cannot evict pod as it would violate the '
                "pod's disruption budget.",
                file=sys.stderr,
            )
            time.sleep(0.05)
            if time.monotonic() > end:
                fail(f"error: unable to drain node {names[0]} due to error: global timeout reached: {seconds:g}s")
        pod["node"] = next(other for other, row in state["nodes"].items() if not row["cordoned"])
    node["drained"] = True


def fail(text: str) -> NoReturn:
    sys.exit(text)


COMMANDS = {"get": get, "annotate": annotate, "cordon": cordon, "uncordon": uncordon, "drain": drain}


if __name__ == "__main__":
    main(*sys.argv[1:])
