"""What a run did to one node, from the results of its parts; schema: report.schema.json of the role stack_report."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from .io.clock import timestamp
from .io.trust import refuse_planted_link
from .io.writing import write_json

# The collection that this is a part of, which has no make; empty in a checkout.
_COLLECTION = ".".join(__name__.split(".")[1:3]) if __name__.startswith("ansible_collections.") else ""
Result = Mapping[str, Any]
# Of tensorflow_report, as an argument spec.
OPTIONS: dict[str, dict[str, Any]] = {
    "host": {"type": "str", "required": True},
    "path": {"type": "path", "required": True},
    "release_result": {"type": "dict", "default": {}},
    "kept": {"type": "dict", "default": {}},
    "venv_result": {"type": "dict", "default": {}},
    "check_result": {"type": "dict", "default": {}},
    "system_results": {"type": "dict", "default": {}},
    "failed_task": {"type": "str", "default": ""},
    "failed_result": {"type": "dict", "default": {}},
    "proof_required": {"type": "bool", "default": False},
}
_DONE = (
    "changed",
    "action",
    "environment",
    "build",
    "damage",
    "dropped",
    "removed_builds",
    "kept_builds",
    "passed_over",
    "bytes_to_fetch",
    "seconds",
)
_CHECK = ("verdict", "reason", "causes", "reused", "checked_at", "report")
_SYSTEM = (
    "changed",
    "version",
    "action",
    "transaction",
    "healed",
    "drift",
    "repaired",
    "reboot_required",
    "reboot_reasons",
    "processes",
)
# What counts where no plan asks for one of them, as after a rollback.
_GOOD_VERDICTS = ("ok", "cpu_only_no_gpu")
# The good verdict of `tensorflow_check_level: libraries`, which proves less, as was asked for.
_ASKED_FOR_LESS = "libraries_ok"
_INVENTORY_OF_MAKE = os.path.join("inventories", "workstation")


def make_report(
    host: str,
    *,
    release_result: Result,
    kept: Mapping[str, Result | None],
    venv_result: Result,
    check_result: Result,
    system_results: Mapping[str, Result],
    failed_result: Result,
    failed_task: str,
    proof_required: bool,
    written_at: str,
) -> dict[str, Any]:
    """The report of one node. A part that did not run has an empty result; `failed_result` is that of what failed.

    `kept` has the result of a build and of a check that need not run, since the plan found them done.
    """
    plan = release_result.get("plan")
    done = venv_result if _ran(venv_result) else kept.get("environment") or {}
    checked = check_result if _ran(check_result) else kept.get("check") or {}
    ran = {name: result for name, result in system_results.items() if _ran(result)}
    verdict = checked.get("verdict")
    proven = verdict in ([plan["verdict"]] if plan else _GOOD_VERDICTS)
    error = None
    if failed_result or failed_task:
        error = _message(failed_result) or f"The task {failed_task!r} failed and gave no reason."
    elif proof_required and not proven and verdict != _ASKED_FOR_LESS:
        error = (
            f"Nothing was proven: the verdict of this run is {verdict or 'none, because no check ran'}. "
            "Run the complete playbook, without --start-at-task, --step, --tags and --skip-tags."
        )
    return {
        "schema": 1,
        "host": host,
        "written_at": written_at,
        "release": plan["release"] if plan else done.get("release"),
        "plan": plan,
        "system": {
            name: {key: result[key] for key in _SYSTEM if key in result}
            for name, result in ran.items()
            if not result.get("failed")
        },
        "done": {key: done[key] for key in _DONE} if "action" in done else None,
        "additions": done.get("additions") or [],
        "check": {key: checked[key] for key in _CHECK} if verdict else None,
        "error": error,
        "succeeded": error is None and proven,
    }


def _ran(result: Result) -> bool:
    return bool(result) and not result.get("skipped")


def _message(result: Result) -> Any:
    """Of a loop, that of its first item that failed: the loop's own says only that one did."""
    items = [item for item in result.get("results", ()) if item.get("failed")]
    return (items[0] if items else result).get("msg")


class Asked(NamedTuple):
    """What of the run a later command for the same node needs, too; empty if it was left open."""

    root: str = ""
    inventories: Sequence[str] = ()
    limit: str = ""  # the node, if the run had others besides

    @classmethod
    def read(cls, variables: Mapping[str, Any], template: Callable[[Any], Any]) -> Asked:
        """From the variables of a task, by Ansible's templating."""
        root = variables.get("tensorflow_root") or ""
        inventories = variables.get("ansible_inventory_sources") or ()
        is_alone = len(variables.get("ansible_play_hosts_all") or ()) <= 1
        return cls(
            root=str(template(root)) if root else "",
            inventories=() if is_alone and "".join(inventories).endswith(_INVENTORY_OF_MAKE) else tuple(inventories),
            limit="" if is_alone else variables["inventory_hostname"],
        )

    def command(self, playbook: str, environment: str = "") -> str:
        if self.limit or len(self.inventories) > 1 or _COLLECTION:
            values = {"tensorflow_environment": environment, "tensorflow_root": self.root}
            words = ["ansible-playbook", *(word for source in self.inventories for word in ("-i", source))]
            words.append(f"{_COLLECTION}.{playbook}" if _COLLECTION else f"playbooks/{playbook}.yml")
            words += ["--limit", self.limit] if self.limit else []
            words += [word for name, value in values.items() if value for word in ("-e", f"{name}={value}")]
        else:
            values = {"ENVIRONMENT": environment, "ROOT": self.root, "INVENTORY": "".join(self.inventories)}
            words = ["make", playbook, *(f"{name}={value}" for name, value in values.items() if value)]
        return " ".join(map(shlex.quote, words))


def use_lines(report: Mapping[str, Any], options: Mapping[str, Any], asked: Asked) -> list[str]:
    """What is ready on the node, how to use it and how to go back; empty unless the run proved an environment."""
    done = options["venv_result"] if _ran(options["venv_result"]) else options["kept"].get("environment") or {}
    if not report["succeeded"] or not done.get("build"):
        return []
    programs = os.path.join(done["environment"], "bin")
    manifest = (options["release_result"].get("node") or {}).get("manifest") or {}
    plan = report["plan"]
    return [
        f"ready: TensorFlow {done['release']} ({done['flavour']}), {programs}/python",
        f"to use it: source {shlex.quote(programs + '/activate')} (docs/use.md: Jupyter, IDEs, systemd, cron)",
        f"to go back: {_way_back(done, manifest, asked)}",
        *(
            f"not used: GPU {gpu['index']} ({gpu['name']}): {gpu['why']}"
            for gpu in (plan["other_gpus"] if plan else ())
        ),
    ]


def _way_back(done: Mapping[str, Any], manifest: Mapping[str, Any], asked: Asked) -> str:
    back = done.get("rollback")
    further = f"{asked.command('rollback')} switches to {back['environment']} ({back['build']})" if back else ""
    if done["action"] == "rollback":
        again = f"{asked.command('workstation')} with a release applies that one"
        return f"{again}; {further}" if further else again
    if further:
        return further
    name = os.path.basename(done["environment"])
    builds = (manifest.get("environments", {}).get(name) or {}).get("builds", [])
    earlier = [
        build for build in builds if build not in done["removed_builds"] and _number(build) < _number(done["build"])
    ]
    if earlier:
        return f"{asked.command('rollback', name)} switches to {earlier[-1]}"
    return f"{asked.command('remove', name)} removes it; it has no earlier build"


def _number(build: str) -> int:
    return int(build.rpartition("-")[2])


def options_of(**given: Any) -> dict[str, Any]:
    """The options of `tensorflow_report`, with the defaults of those that are not given."""
    return {**{name: option.get("default") for name, option in OPTIONS.items()}, **given}


def leave_report(options: Mapping[str, Any], *, check_mode: bool) -> tuple[dict[str, Any] | None, str | None]:
    """Write the report that the options of `tensorflow_report` ask for; it, and why the task fails, if it does."""
    host, path = options["host"], os.path.normpath(options["path"])
    if host in (".", "..") or "/" in host:
        return None, f"No report is written: the name of the host {host!r} is not a valid file name."
    results = (
        "release_result",
        "kept",
        "venv_result",
        "check_result",
        "system_results",
        "failed_result",
        "failed_task",
    )
    report = make_report(
        host,
        **{name: options[name] for name in results},
        proof_required=options["proof_required"] and not check_mode,
        written_at=timestamp(),
    )
    if not check_mode:
        try:
            refuse_planted_link(path)
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
            write_json(path, report)
        except OSError as error:
            return report, (
                f"The report {path} cannot be written: {error.strerror}. "
                "Set stack_report_directory to a directory of yours."
            )
    if not report["error"]:
        return report, None
    # What failed has said why; a verdict that is missing says so here.
    failed = f"The task {options['failed_task']!r} failed, see above." if options["failed_result"] else report["error"]
    return report, failed + ("" if check_mode else f" The report is {path}.")
