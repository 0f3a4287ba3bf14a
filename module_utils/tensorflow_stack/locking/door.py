"""What `tensorflow_lock` does: from its options to locks, written unless it is check mode, and what is said of them."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
import platform
from collections.abc import Mapping
from typing import Any

from ..errors import StackError
from ..io.uv import ensure_uv
from ..records.lockfile import package_lines, write_lock
from ..requirements.parse import UserRequirements, read_requirements
from ..tables.load import Tables, load_tables
from ..tables.releases import newest_patch
from . import conflicts, resolver
from .extend import PackageIndex, added_from, extend_lock, read_base
from .inputs import LockInputs, UnsatisfiableError, choose_release, lock_requests
from .wheel_files import WheelFiles

# Of tensorflow_lock, as an argument spec.
OPTIONS: dict[str, dict[str, Any]] = {
    "release": {"type": "str"},
    "requirements": {"type": "path"},
    "pythons": {"type": "list", "elements": "str", "default": []},
    "architectures": {
        "type": "list",
        "elements": "str",
        "choices": ["x86_64", "aarch64"],
        "default": ["x86_64"],
    },
    "flavours": {"type": "list", "elements": "str", "choices": ["cpu", "gpu", "cuda", "cudnn"], "default": []},
    "directory": {"type": "path", "required": True},
    "tables": {"type": "path", "required": True},
    "upgrade": {"type": "bool", "default": False},
    "cutoff": {"type": "str"},
    "index_url": {"type": "str"},
    "tools_directory": {"type": "path", "required": True},
    "added": {
        "type": "dict",
        "options": {
            "lines": {"type": "list", "elements": "str", "required": True},
            "pins": {"type": "list", "elements": "str", "default": []},
            "to": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "base": {"type": "path"},
            "versions": {"type": "dict", "default": {}},
            "listings": {"type": "dict", "default": {}},
        },
    },
}


def answer(options: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """The result of `tensorflow_lock` with these options. Raises StackError; then no lock was changed."""
    made = _make(options)
    run = made.run
    changed = [outcome for outcome in run.outcomes if outcome.state != "unchanged"]
    if not check_mode:
        for outcome in changed:
            write_lock(outcome.path, outcome.lock)
    return {
        "changed": bool(changed),
        "release": made.release,
        "locks": [_result(outcome) for outcome in run.outcomes],
        "left_out": [
            {
                "python": request.python,
                "platform": request.platform,
                "flavour": request.flavour,
                "reason": error.message,
            }
            for request, error in run.skipped
        ],
        "without_lock": made.without_lock,
        # What nobody could compare must not go unsaid, whichever playbook runs.
        "warnings": [note for outcome in run.outcomes if outcome.before is not None for note in outcome.notes],
        "notes": [*dict.fromkeys(note for outcome in run.outcomes for note in outcome.notes), *made.notes],
        "diff": [
            {
                "before_header": outcome.path,
                "after_header": outcome.path,
                "before": package_lines(outcome.packages_before),
                "after": package_lines(outcome.lock.packages),
            }
            for outcome in changed
        ],
    }


@dataclasses.dataclass(frozen=True)
class _Made:
    release: str
    run: resolver.LockRun
    without_lock: list[dict[str, str]]
    notes: list[str]


def _make(options: Mapping[str, Any]) -> _Made:
    tables = load_tables(options["tables"])
    requirements = read_requirements(options["requirements"]) if options["requirements"] else None
    release = _release(tables, requirements, options)
    requests = lock_requests(
        tables,
        release=release,
        requirements=requirements,
        pythons=options["pythons"],
        architectures=options["architectures"],
        flavours=options["flavours"],
    )
    uv = functools.cache(lambda: _uv(tables, options))
    cutoff = options["cutoff"] or f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}T00:00:00Z"
    index_url = options["index_url"]
    wheel_files = WheelFiles(os.path.join(options["tools_directory"], "wheel-files"), index_url)

    def explained(error: UnsatisfiableError) -> UnsatisfiableError:
        def resolve(inputs: LockInputs) -> dict[str, str]:
            return resolver.resolve_versions(
                inputs, uv=uv(), cutoff=cutoff, index_url=index_url, list_files=wheel_files
            )

        return conflicts.explain(error, tables, resolve)

    added = added_from(options["added"]) if options.get("added") else None
    index = PackageIndex(uv, cutoff, options["index_url"], wheel_files)
    run = resolver.LockRun((), ())
    try:
        if added is None or added.base is None:
            run = resolver.make_locks(
                requests,
                tables,
                directory=options["directory"],
                uv=uv,
                cutoff=cutoff,
                index_url=index_url,
                upgrade=options["upgrade"],
                skip_unsatisfiable=requirements is not None and not options["pythons"],
                list_files=wheel_files,
            )
    except UnsatisfiableError as error:
        refusal = explained(error)
        raise StackError(f"{refusal.message} No lock was changed.", **refusal.details) from error
    if added is not None:
        base = read_base(added.base) if added.base else run.outcomes[0].lock
        extended = extend_lock(requests[0], base, added, tables, index, explained)
        run = resolver.LockRun((extended, *run.outcomes), run.skipped)
    notes = _notes(wheel_files.unread)
    made = {(outcome.lock.platform, outcome.lock.flavour) for outcome in run.outcomes}
    last = {(request.platform, request.flavour): error for request, error in run.skipped}
    without_lock = [
        {"platform": target[0], "flavour": target[1], "reason": explained(error).message}
        for target, error in last.items()
        if target not in made
    ]
    return _Made(release, run, without_lock, notes)


def _release(tables: Tables, requirements: UserRequirements | None, options: Mapping[str, Any]) -> str:
    release: str | None = options["release"]
    if requirements is None and not release:
        raise StackError("There is nothing to lock. Set tensorflow_version or tensorflow_requirements.")
    if requirements is not None and not release:
        release = choose_release(tables, requirements, options["pythons"])
    return newest_patch(tables, str(release))


def _notes(unread: dict[str, str]) -> list[str]:
    if not unread:
        return []
    reasons = "; ".join(dict.fromkeys(unread.values()))
    return [
        f"Whether distributions install the same paths was judged by their names for {', '.join(sorted(unread))}, "
        f"since their lists of files could not be read: {reasons}"
    ]


def _uv(tables: Tables, options: Mapping[str, Any]) -> str:
    record = tables.uv(platform.machine())
    if record is None:
        raise StackError(
            f"The table uv.yml has no uv for this controller's architecture, {platform.machine()}. "
            "Make the locks on another machine, or add the row."
        )
    return ensure_uv(
        directory=options["tools_directory"],
        record=record._asdict(),
        index_url=options["index_url"],
    )


def _result(outcome: resolver.LockOutcome) -> dict[str, Any]:
    lock = outcome.lock
    return {
        "path": outcome.path,
        "python": lock.python,
        "platform": lock.platform,
        "flavour": lock.flavour,
        "state": outcome.state,
        "summary": outcome.summary,
        **outcome.changes,
        "bytes": lock.total_bytes,
        "constraints": [dataclasses.asdict(constraint) for constraint in lock.constraints],
        "text": lock.text,
        "without": list(lock.without),
    }
