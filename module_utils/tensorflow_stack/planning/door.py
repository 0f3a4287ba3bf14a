"""From the words of an inventory to a plan: reads tables, requirements and locks, then asks the pure parts."""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import os
import pathlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import StackError, TableError
from ..locking.added import shortened
from ..records.environment import check_name
from ..records.lockfile import Lock, read_lock
from ..requirements import parse, words
from ..tables.load import Tables, load_tables
from ..tables.releases import newest_patch
from . import applied, asked, bundled, images, plan, resolution, users
from .added import Changes
from .file_wishes import check_named_release, is_accepted, nothing_runs
from .kept import find_kept
from .locks import LockChoice, Places, choose_lock, supplied_by
from .node import Environment, NodeFacts
from .node_kind import on_its_base
from .stack import Assessment, Policy, Refusal, Stack
from .table import render

# Shared memory has been used as a scratch disk before.
_OF_THE_SYSTEM = re.compile("/(bin|boot|dev(?!/shm/.)|etc|lib[0-9a-z]*|proc|run|sbin|sys)/")


def reading(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How `gpu_node_info` has to read the node: the environments that plans will be about, as far as they are known."""
    names = list(filter(None, map(_named_environment, each)))
    asked = {
        "environments_root": each[0]["environments_root"],
        "environment": names[0] if len(each) == 1 and names else None,
        "environments": names if len(each) > 1 else None,
        "images": any(one.get("image") for one in each),
    }
    return {name: value for name, value in asked.items() if value}


def _named_environment(options: Mapping[str, Any]) -> str | None:
    release = options["release"]
    if options.get("image_manifest"):
        return str(options["environment"] or options["image_manifest"]["name"])
    # `answer` refuses tables that cannot be read.
    with contextlib.suppress(TableError):
        release = newest_patch(load_tables(options["tables"]), release)
    named: str | None = options["environment"]
    return named or (f"tensorflow-{release}" if release not in ("", "newest", "current") else None)


def before_build(made: Mapping[str, Any]) -> dict[str, str] | None:
    """Arguments of `tensorflow_build_info` for a plan that builds an environment, None for any other."""
    if all(step["component"] != "environment" or step["action"] == "keep" for step in made["steps"]):
        return None
    python = made["python"]
    found = {"python": python["path"]} if python["source"] == "found" else {}
    return {"root": made["environment"]["root"], "minor": python["minor"], **found}


def with_fault(node: Mapping[str, Any], path: str, fault: str) -> dict[str, Any]:
    """The record of a node with an interpreter that does not start."""
    return {**node, "pythons": [{**row, "fault": fault} if row["path"] == path else row for row in node["pythons"]]}


def users_of(made: Mapping[str, Any]) -> dict[str, Any] | None:
    """Arguments of `gpu_processes_info` for a plan that changes something that may be in use, None for any other."""
    return users.question(made)


def with_users(
    options: Mapping[str, Any], result: Mapping[str, Any], found: Mapping[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """The same as of `answer`, when it is known which processes use what the plan changes."""
    return _with_plan(options, result, users.refuse_in_use(result["plan"], found))


def takes_from_bundle(made: Mapping[str, Any]) -> bool:
    """Whether a plan installs something."""
    return any(step["action"] in ("install", "change") for step in made["steps"])


def lock_of(made: Mapping[str, Any]) -> Lock | None:
    """The lock of a plan, None if it has still to be made or is on the node alone."""
    return read_lock(made["lock"]["path"]) if made["lock"]["state"] == "ready" else None


def with_faults(
    options: Mapping[str, Any], result: Mapping[str, Any], faults: Sequence[Mapping[str, str]]
) -> tuple[dict[str, Any], str | None]:
    """The same as of `answer`, when it is known what is wrong with the bundle."""
    return _with_plan(options, result, bundled.refuse_faults(result["plan"], faults, options["bundle"]))


def _with_plan(
    options: Mapping[str, Any], result: Mapping[str, Any], made: dict[str, Any]
) -> tuple[dict[str, Any], str | None]:
    if made is result["plan"]:
        return dict(result), None
    table = render(made, result["releases"])
    return {**result, "plan": made, "table": table}, table if options["enforced"] else None


def answer(options: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The result of `tensorflow_stack_info` with these options, and why the task fails, if it does."""
    requirements = options["requirements"]
    try:
        result = plan_for(
            release=options["release"],
            # A path that is recorded means the same file from everywhere.
            requirements_path=os.path.abspath(requirements) if requirements else None,
            node=options["node"],
            environment=options["environment"],
            policy=options["policy"],
            tables_directory=options["tables"],
            shipped_locks=options["shipped_locks"],
            locks=options["locks"],
            cached=options.get("cached", ()),
            packages=options.get("packages", ""),
            packages_removed=options.get("packages_removed", ""),
            in_use=options.get("in_use", True),
            image=options.get("image_manifest"),
        )
    except StackError as error:
        made = refused_plan(options["release"], error.message)
        kept = {"environment": None, "check": None}
        return {"plan": made, "table": error.message, "releases": [], "kept": kept, **error.details}, error.message
    is_refused = result["plan"]["refusals"] and options["enforced"]
    return result, result["table"] if is_refused else None


def plan_for(
    *,
    release: str,
    requirements_path: str | None,
    node: dict[str, Any],
    environment: str | None,
    policy: dict[str, Any],
    tables_directory: str,
    shipped_locks: str,
    locks: str,
    cached: Collection[str] = (),
    packages: str = "",
    packages_removed: str = "",
    in_use: bool = True,
    image: Mapping[str, Any] | None = None,
    today: str | None = None,
) -> dict[str, Any]:
    """The result of `tensorflow_stack_info`. `today` decides what has ended."""
    tables = load_tables(tables_directory)
    facts = replace(on_its_base(tables, NodeFacts.read(node)), cached=frozenset(cached))
    _check_places(facts, environment)
    changes = _changes(packages, packages_removed)
    given = asked.read_policy(policy, today or datetime.date.today().isoformat())
    mounted = images.read_image(image if release != "current" and not changes.projects else None, node)
    wish = images.with_image(asked.Wish(release, environment, requirements_path, given), mounted)
    wish, current = asked.resolve(tables, facts, wish, changes, os.path.isfile)
    if current and current.image and changes.projects:
        return _result(plan.refuse(current.release, images.refuse_changes(current, facts.root)), [], facts, in_use)
    variables = asked.as_applied({**wish.variables, **_wished(packages, packages_removed)}, current)
    if current:
        wish = replace(wish, release=current.release, policy=wish.policy.with_asked(current.asked or {}))
    wishes = _read_wishes(wish.requirements, wish.release) if wish.requirements else None
    if wishes and wish.release == "newest":
        check_named_release(tables, wishes)
    wanted = applied.policy_as_applied(wish.policy, current) if current else wish.policy
    # Of several interpreters that of an environment is taken: of this one, where it is planned as it was applied.
    seen = replace(facts, environments=(current,)) if current else images.interpreters_for(facts, mounted)
    assessment, releases = _assess(tables, wish.release, wishes, seen, wanted, is_listed=not release)
    # A file that names TensorFlow has chosen: nobody asks about the others.
    listed = [] if wishes and parse.names_tensorflow(wishes) else releases
    if assessment is None or assessment.stack is None or assessment.refusals:
        refused = assessment and plan.refuse(assessment.release.version, assessment.refusals)
        return _result(refused or nothing_runs(tables, wishes, releases), listed, facts, in_use)
    made = _planned(
        tables,
        assessment.stack,
        facts,
        wish.policy,
        environment=wish.environment,
        variables=variables,
        wishes=wishes,
        current=current,
        changes=changes,
        places=Places(own=locks, shipped=shipped_locks),
        image=mounted,
    )
    made["warnings"] = [*wish.notes, *made["warnings"]]
    return _result(made, listed, facts, in_use)


def _result(made: dict[str, Any], releases: list[dict[str, Any]], node: NodeFacts, in_use: bool) -> dict[str, Any]:
    kept = find_kept(made, node, in_use=in_use)
    return {"plan": made, "table": render(made, releases), "releases": releases, "kept": kept}


def _planned(
    tables: Tables,
    stack: Stack,
    node: NodeFacts,
    policy: Policy,
    *,
    environment: str | None,
    variables: dict[str, Any],
    wishes: parse.UserRequirements | None,
    current: Environment | None,
    changes: Changes,
    places: Places,
    image: images.Image | None,
) -> dict[str, Any]:
    refusals = applied.refuse_lost_gpu(current, stack, policy) if current else ()
    if refusals:
        return plan.refuse(stack.release.version, refusals)
    name = environment or (current.name if current else f"tensorflow-{stack.release.version}")
    choice = choose_lock(
        tables, stack, node, policy, name=name, wishes=wishes, current=current, changes=changes, places=places
    )
    claim = _claim(choice.wishes, node.environment(name), is_named=bool(environment))
    made = _plan(tables, stack, node, choice, name, claim, variables, policy, image)
    if current and not made["refusals"]:
        made["warnings"] += applied.warn_of_gpus(current, node, policy)
    return made


def _wished(packages: str, packages_removed: str) -> dict[str, str]:
    wished = {"tensorflow_packages": packages, "tensorflow_packages_removed": packages_removed}
    return {name: text for name, text in wished.items() if text}


def _claim(wishes: parse.UserRequirements | None, before: Environment | None, *, is_named: bool) -> applied.Claim:
    if wishes is None:
        return applied.Claim(is_named)
    known = before.requirements_path if before else None
    return applied.Claim(
        is_named,
        wishes.path,
        frozenset(str(wish.requirement) for wish in wishes.requirements),
        is_same_file=known is not None and os.path.realpath(known) == os.path.realpath(wishes.path),
    )


def _plan(
    tables: Tables,
    stack: Stack,
    node: NodeFacts,
    choice: LockChoice,
    name: str,
    claim: applied.Claim,
    variables: dict[str, Any],
    policy: Policy,
    image: images.Image | None,
) -> dict[str, Any]:
    """The plan of a stack that can be; refused where it would lose what somebody put into the environment."""
    if choice.refusals:
        return plan.refuse(stack.release.version, choice.refusals)
    made = plan.make_plan(
        stack=stack,
        node=node,
        lock=choice.lock,
        name=name,
        check_code=_check_code(),
        asked=variables,
        uv=_uv(tables, node.architecture),
        image=image.as_dict() if image else None,
        warnings=(
            *(choice.wishes.notes if choice.wishes else ()),
            *resolution.warn_of_download(tables, stack, node, policy),
        ),
    )
    unusable = applied.refuse_root(node, made)
    if image and not unusable:
        unusable = images.refuse_image(image, made, choice.lock.sha256, node)
    if unusable:
        return plan.refuse(stack.release.version, unusable)
    if choice.carried:
        made["warnings"].append(
            f"Somebody added to {made['environment']['path']}: {shortened(choice.carried)}. The new build has the same "
            "versions, or the run stops before it changes anything."
        )
    if policy.additions == "drop":
        return made
    refusals, warnings = applied.find_losses(
        node.environment(name),
        environment=made["environment"],
        lock=choice.lock,
        claim=claim,
        supplied=supplied_by(stack, tables),
    )
    if refusals:
        return plan.refuse(stack.release.version, refusals)
    made["warnings"] += warnings
    return made


@functools.cache
def _check_code() -> str:
    """A digest of the check's code: a verdict does not hold for another check."""
    room = pathlib.Path(__file__).resolve().parents[1] / "check"
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(room.rglob("*.py")))).hexdigest()


def _changes(packages: str, packages_removed: str) -> Changes:
    return Changes(
        add=tuple(words.read_words(packages, "tensorflow_packages (make: PACKAGES=)")),
        remove=tuple(words.read_names(packages_removed, "tensorflow_packages_removed (make: REMOVE=)")),
    )


def _read_wishes(path: str, release: str) -> parse.UserRequirements:
    try:
        return parse.read_requirements(path)
    except StackError as error:
        raise (parse.missing_tensorflow(error) if release == "newest" else error) from error


def _check_places(node: NodeFacts, name: str | None) -> None:
    """Raises StackError where a directory of environments has no place or cannot be read, and for an invalid name."""
    if name:
        check_name(name)
    path = node.root
    system = _OF_THE_SYSTEM.match(path + "/")
    if path in ("/", "/home", "/usr", "/var") or system:
        raise StackError(
            f"The root of the environments is {path}, which is the system's. "
            "Set tensorflow_root to a directory of its own, such as /opt/tensorflow."
        )
    if node.root_unread:
        raise StackError(
            f"The environments' root {path} cannot be read by {node.user_name} ({node.root_unread}). "
            "Set tensorflow_root to a directory of yours, or run as its owner or as root."
        )


def refused_plan(release: str, message: str) -> dict[str, Any]:
    """The plan for a wish that could not even be read."""
    refused = plan.refuse(release, (Refusal("release", found=message, wanted=release, set=""),))
    refused["refusals"][0]["message"] = message
    return refused


def _assess(
    tables: Tables,
    release: str,
    wishes: parse.UserRequirements | None,
    node: NodeFacts,
    policy: Policy,
    *,
    is_listed: bool,
) -> tuple[Assessment | None, list[dict[str, Any]]]:
    """Of the release, and whether each of all runs, if that is asked for (`is_listed`) or needed."""
    best, rows = None, []
    if release == "newest" or is_listed:
        best, assessments = resolution.choose(tables, node, policy, accepts=lambda a: is_accepted(a, wishes))
        rows = [
            {"release": a.release.version, "runs": not a.refusals, "reasons": [r.message for r in a.refusals]}
            for a in assessments
        ]
    # A file that asks for another release is refused where the lock's inputs are put together.
    return best if release == "newest" else resolution.assess_wish(tables, release, node, policy), rows


def _uv(tables: Tables, architecture: str | None) -> dict[str, Any] | None:
    row = tables.uv(architecture)
    if row is None:
        return None
    return {
        "version": row.version,
        "filename": row.filename,
        "sha256": row.sha256,
        "bytes": row.bytes,
        "program_sha256": row.program_sha256,
        "python_hosts": list(row.python_hosts),
        "python_archives": dict(row.python_archives),
    }
