"""What a report of a fault contains, as one text to read before it is sent."""

from __future__ import annotations

import glob
import json
import os
import platform
import pwd
from typing import Any, Iterable, List, Mapping, NamedTuple

from ..environment.root import check_root
from ..errors import NotStartedError, StackError
from ..io.commands import run
from ..io.reading import read_tail
from ..io.writing import write_text
from .redact import redact

# Of each log, and of each of its lines: an issue takes 65,536 characters.
LOG_LINES = 80
_LINE = 300
_MOST_BYTES = 1 << 18
_COMMAND_SECONDS = 10
_HEAD = """\
# Report for an issue

Made by `make doctor REPORT=1`. Passwords, tokens, keys, names of users and machines, addresses
and home directories are taken out, as far as they can be recognised. **Read it before you send it**: you know better
what is yours.
"""


class Known(NamedTuple):
    """Names that are somebody's."""

    users: List[str]
    hosts: List[str]
    homes: List[str]


def known_here() -> Known:
    """Those of this machine and of who runs this."""
    users = [entry.pw_name for entry in pwd.getpwall() if entry.pw_uid >= 1000 and entry.pw_name != "nobody"]
    users += [os.environ.get(name, "") for name in ("USER", "SUDO_USER", "LOGNAME")]
    homes = [os.path.expanduser("~"), os.environ.get("HOME", "")]
    try:
        entry = pwd.getpwuid(os.getuid())
        users, homes = [*users, entry.pw_name], [*homes, entry.pw_dir]
    except KeyError:  # a user without a name
        pass
    return Known(users, [platform.node()], homes)


def known_together(known: Known, others: Mapping[str, Any]) -> Known:
    """With what another machine knows, as far as it is what it should be."""
    added = [[str(item) for item in others.get(name) or ()] for name in Known._fields]
    return Known(*(mine + theirs for mine, theirs in zip(known, added)))


def versions(repository: str, ansible_core: str) -> dict[str, str]:
    """What this toolkit and its controller are."""
    try:
        done = run(["git", "-C", repository, "describe", "--always", "--tags", "--dirty"], timeout=_COMMAND_SECONDS)
        toolkit = done.output.strip() if done.code == 0 else "not known"
    except NotStartedError:
        toolkit = "not known"
    system = {"python": platform.python_version(), "controller": platform.platform()}
    return {"toolkit": toolkit, "ansible-core": ansible_core, **system}


def ends_of(patterns: Iterable[str]) -> dict[str, str]:
    """The ends of the three newest logs of each pattern, by their names; through no link."""
    found: dict[str, str] = {}
    for pattern in patterns:
        paths = [path for path in glob.glob(pattern) if not os.path.islink(path)]
        for path in sorted(paths, key=_written_at)[-3:]:
            try:
                text = read_tail(path, _MOST_BYTES, follow=False).decode("utf-8", "replace")
            except OSError as error:
                text = f"not readable: {error.strerror}"
            found[os.path.basename(path)] = text
    return found


def kept_logs(root: str) -> dict[str, str]:
    """The ends of those of builds and checks, unless somebody else may write among them, and of faults."""
    builds = os.path.join(glob.escape(root), ".builds")
    patterns = [os.path.join(builds, "*.log"), os.path.join(builds, "*.check")]
    try:
        check_root(root)
    except StackError:
        patterns = []
    return ends_of([*patterns, fault_logs()])


def fault_logs() -> str:
    """Where the faults of this toolkit are, of the user who runs this (boundary.py)."""
    return os.path.join(glob.escape(os.path.expanduser("~")), ".local", "state", "tensorflow-gpu-stack", "*.log")


def _written_at(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0


def tail(text: str) -> str:
    """The last lines, each cut where nobody reads on."""
    lines = [line if len(line) <= _LINE else f"{line[:_LINE]}..." for line in text.splitlines() if line.strip()]
    left = len(lines) - LOG_LINES
    return "\n".join([f"({left} lines before these)"] * (left > 0) + lines[-LOG_LINES:])


OPTIONS: dict[str, dict[str, Any]] = {
    "path": {"type": "path", "required": True},
    "repository": {"type": "path", "required": True},
    "doctor": {"type": "dict", "default": {}},
    "node": {"type": "dict", "default": {}},
    "plan": {"type": "dict", "default": {}},
    "info": {"type": "dict", "default": {}},
    "names": {"type": "list", "elements": "str", "default": []},
}


def write_report(options: Mapping[str, Any], ansible_core: str) -> str:
    """Write the report of a node, from the results of its tasks, and return its text. Raises OSError."""
    node, plan, doctor = (_result(options[name]) for name in ("node", "plan", "doctor"))
    user = (node.get("node") or {}).get("user") or {}
    known = known_together(known_here(), options["info"])
    known = known_together(known, {"users": [user.get("name")], "homes": [user.get("home")], "hosts": options["names"]})
    reports = os.path.dirname(options["path"])
    parts = {
        "Versions": versions(options["repository"], ansible_core),
        "What the doctor found": "\n".join(doctor.get("lines") or []) or doctor.get("msg"),
        "Plan": plan.get("table") or plan.get("msg"),
        "Node": node.get("node") or node.get("msg"),
        "Plan as JSON": plan.get("plan"),
    }
    logs = {
        **ends_of([os.path.join(glob.escape(reports), "*.failed.log"), fault_logs()]),
        **options["info"].get("logs", {}),
    }
    text = report(parts, logs, known)
    os.makedirs(reports, exist_ok=True)
    write_text(options["path"], text, mode=0o600)
    return text


def _result(result: Any) -> dict[str, Any]:
    """The result of a task, which may have been skipped or have failed."""
    return result if isinstance(result, dict) else {}


def report(parts: Mapping[str, Any], logs: Mapping[str, str], known: Known) -> str:
    """The text. A part is a text, or data; what is empty is left out."""
    texts = [_HEAD]
    for title, content in parts.items():
        if content:
            body = content if isinstance(content, str) else json.dumps(content, indent=1, sort_keys=True, default=str)
            texts.append(_section(title, body, known))
    for title, content in logs.items():
        if content.strip():
            # Redacted before it is cut: a key that has lost its first line looks like nothing.
            texts.append(_section(f"Log: {title}", tail(_redacted(content, known)), known))
    return "\n".join(texts)


def _section(title: str, body: str, known: Known) -> str:
    fence = "```" if "```" not in body else "~~~~~~"
    return f"## {_redacted(title, known)}\n\n{fence}\n{_redacted(body, known).strip()}\n{fence}\n"


def _redacted(text: str, known: Known) -> str:
    return redact(text, users=known.users, hosts=known.hosts, homes=known.homes)
