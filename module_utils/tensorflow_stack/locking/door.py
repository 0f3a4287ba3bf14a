"""What `tensorflow_lock` does: from its options to locks, written unless it is check mode, and what is said of them."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import StackError
from ..io.uv import ensure_uv
from ..records.lockfile import package_lines, write_lock
from ..requirements.parse import UserRequirements, missing_tensorflow, read_requirements
from ..tables.load import Tables, load_tables
from ..tables.releases import newest_patch
from . import conflicts, resolver
from .blame import Lookup
from .extend import PackageIndex, added_from, extend_lock, read_base
from .inputs import LockInputs, LockRequest, UnsatisfiableError, choice_note, choose_release, lock_requests
from .offers import Offers
from .wheel_files import FileLister, WheelFiles

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
    "source_builds": {"type": "list", "elements": "str", "default": []},
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
        "left_out": made.left_out,
        "without_lock": made.without_lock,
        "summaries": _summaries(made),
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
    left_out: list[dict[str, str]]
    without_lock: list[dict[str, str]]
    notes: list[str]


def _make(options: Mapping[str, Any]) -> _Made:
    tables = load_tables(options["tables"])
    requirements = _requirements(options)
    release = _release(tables, requirements, options)
    requests = lock_requests(
        tables,
        release=release,
        requirements=requirements,
        pythons=options["pythons"],
        architectures=options["architectures"],
        flavours=options["flavours"],
        source_builds=options["source_builds"] if requirements else [],
    )
    made = _make_requested(tables, requirements, requests, options)
    if requirements is not None and not options["release"]:
        made.notes[:0] = choice_note(requirements, release)
    return made


def _make_requested(
    tables: Tables, requirements: UserRequirements | None, requests: Sequence[LockRequest], options: Mapping[str, Any]
) -> _Made:
    uv = _once(lambda: _uv(tables, options))
    cutoff = options["cutoff"] or f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}T00:00:00Z"
    index_url = options["index_url"]
    wheel_files = WheelFiles(os.path.join(options["tools_directory"], "wheel-files"), index_url)

    def resolve(inputs: LockInputs, list_files: FileLister | None = None) -> dict[str, str]:
        return resolver.resolve_versions(
            inputs,
            uv=uv(),
            cutoff=cutoff,
            index_url=index_url,
            list_files=list_files,
            reader=wheel_files,
        )

    asked = Lookup(lambda inputs: resolve(inputs, wheel_files), resolve, Offers(index_url, cutoff))

    def explained(*errors: UnsatisfiableError) -> UnsatisfiableError:
        return conflicts.explain(errors, tables, asked)

    added = added_from(options["added"]) if options.get("added") else None
    index = PackageIndex(uv, cutoff, options["index_url"], wheel_files)
    run = resolver.LockRun((), ())
    if added is None or added.base is None:
        try:
            run = resolver.make_locks(
                requests,
                tables,
                directory=options["directory"],
                uv=uv,
                cutoff=cutoff,
                index_url=index_url,
                upgrade=options["upgrade"],
                skip_unsatisfiable=requirements is not None,
                list_files=wheel_files,
                reader=wheel_files,
            )
        except UnsatisfiableError as error:
            raise _without_locks(explained(error)) from error
        # What is left out is only said of Pythons; those that somebody named have to be there.
        if run.skipped and (options["pythons"] or not run.outcomes):
            raise _without_locks(explained(*_of_one_flavour(run))) from run.skipped[-1][1]
    if added is not None:
        base = read_base(added.base) if added.base else run.outcomes[0].lock
        extended = extend_lock(requests[0], base, added, tables, index, explained)
        run = resolver.LockRun((extended, *run.outcomes), run.skipped)
    return _Made(requests[0].release, run, *_left_out(run, explained, asked), _notes(wheel_files.unread))


def _requirements(options: Mapping[str, Any]) -> UserRequirements | None:
    if not options["requirements"]:
        return None
    try:
        return read_requirements(options["requirements"])
    except StackError as error:
        raise (error if options["release"] else missing_tensorflow(error)) from error


def _without_locks(refusal: UnsatisfiableError) -> StackError:
    return StackError(f"{refusal.message} No lock was changed.", **refusal.details)


def _of_one_flavour(run: resolver.LockRun) -> list[UnsatisfiableError]:
    """The errors of the flavour that requires the least: what prevents it prevents the others."""
    flavour = next((request.flavour for request, _ in run.skipped if request.flavour == "cpu"), None)
    flavour = flavour or run.skipped[0][0].flavour
    return [error for request, error in run.skipped if request.flavour == flavour]


def _left_out(
    run: resolver.LockRun, explained: Callable[..., UnsatisfiableError], index: Lookup
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Targets without a lock, and flavours without one on any Python, each with the reason."""
    made = {(outcome.lock.platform, outcome.lock.flavour) for outcome in run.outcomes}
    reasons: dict[tuple[str, str], list[UnsatisfiableError]] = {}
    for request, error in run.skipped:
        if (request.platform, request.flavour) not in made:
            reasons.setdefault((request.platform, request.flavour), []).append(error)
    without_lock = [
        {"platform": target[0], "flavour": target[1], "reason": explained(*errors).message}
        for target, errors in reasons.items()
    ]
    left_out = [
        {
            "python": request.python,
            "platform": request.platform,
            "flavour": request.flavour,
            "reason": conflicts.explain_shortly(error, index),
        }
        for request, error in run.skipped
    ]
    return left_out, without_lock


def _summaries(made: _Made) -> list[str]:
    """A line for each lock, and one for all Pythons that have none for one reason."""
    lines = [outcome.summary for outcome in made.run.outcomes]
    whole = {(row["platform"], row["flavour"]) for row in made.without_lock}
    groups: dict[str, dict[str, list[str]]] = {}
    for row in made.left_out:
        # Of a flavour that has no lock at all the error says why.
        if (row["platform"], row["flavour"]) not in whole:
            pythons = groups.setdefault(row["reason"], {})
            pythons.setdefault(row["python"], []).append(row["flavour"])
    for reason, pythons in groups.items():
        flavours = dict.fromkeys(flavour for found in pythons.values() for flavour in found)
        lines.append(f"left out  Python {', '.join(pythons)} ({', '.join(flavours)}): {reason}")
    if groups:
        has = dict.fromkeys(outcome.lock.python for outcome in made.run.outcomes)
        lines.append(f"With tensorflow_python {' or '.join(has)} the whole file can be installed.")
    return lines


def _once(get: Callable[[], str]) -> Callable[[], str]:
    """`get`, called once although several threads ask."""
    guard = threading.Lock()
    cached = functools.cache(get)

    def once() -> str:
        with guard:
            return cached()

    return once


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
