"""What `tensorflow_bundle` does: from its options to a bundle, or to what is wrong with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import StackError
from .checking import find_damaged, open_bundle
from .making import BundleOutcome, BundleWish, make_bundle

# Of tensorflow_bundle, as an argument spec.
OPTIONS: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "choices": ["present", "verified"], "default": "present"},
    "directory": {"type": "str", "required": True},
    "results": {"type": "list", "elements": "dict", "default": []},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "older": {"type": "path"},
    "pythons": {"type": "list", "elements": "str", "default": []},
    "index_url": {"type": "str"},
    "python_mirror": {"type": "str"},
    "python_downloads": {"type": "str"},
    "redist_url": {"type": "str"},
    "repository_url": {"type": "str"},
    "signing_key": {"type": "str"},
    "signers": {"type": "path"},
    "tables": {"type": "path"},
    "tools_lock": {"type": "path"},
    "tools_pythons": {"type": "list", "elements": "str", "default": []},
    "tools_directory": {"type": "path"},
    "for_one_run": {"type": "bool", "default": False},
}
_MOST_NAMED = 20


def answer(options: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """The result of the action. Raises StackError."""
    if options["state"] == "verified":
        return verify(options["directory"], signers=options["signers"])
    plans = _plans(options)
    if not plans:
        raise StackError("No node could be planned (see above), so nothing is known to be needed. No bundle was made.")
    wish = BundleWish(
        **{name: options[name] for name in BundleWish.__dataclass_fields__ if name not in _TUPLES},
        plans=plans,
        pythons=tuple(options["pythons"]),
        tools_pythons=tuple(options["tools_pythons"]),
    )
    outcome = make_bundle(wish, check_mode=check_mode)
    before, after = (_paths(outcome.before.files if outcome.before else ()), _paths(outcome.manifest.files))
    return {
        "changed": outcome.changed,
        "files": len(outcome.manifest.files),
        "bytes": outcome.manifest.bytes,
        "fetched_bytes": outcome.fetched_bytes,
        "reused_bytes": outcome.reused_bytes,
        "paths": list(outcome.paths) if options["for_one_run"] else [],
        "lines": _lines_of_run(options["directory"], outcome, check_mode=check_mode)
        if options["for_one_run"]
        else _lines(options["directory"], outcome, check_mode=check_mode),
        "diff": {"before": before, "after": after},
    }


def _plans(options: Mapping[str, Any]) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """Of each host one, or one for each of its environments."""
    return tuple(
        (host, one["plan"])
        for host, result in zip(options["hosts"], options["results"], strict=True)
        for one in result.get("plans") or [result]
        if not one["plan"]["refusals"]
    )


_TUPLES = ("plans", "pythons", "tools_pythons")


def verify(place: str, *, signers: str | None) -> dict[str, Any]:
    """Raises StackError naming each file that is missing, cut or another one than the manifest says."""
    bundle = open_bundle(place, signers=signers)
    faults = find_damaged(bundle, bundle.manifest.files)
    if faults:
        more = f" and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
        raise StackError(
            f"The bundle {bundle.source.shown} is not what its manifest says: {'; '.join(faults[:_MOST_NAMED])}{more}. "
            "Copy these files again from where the bundle was made, or run make bundle there again.",
            faults=faults,
        )
    signed = "signed by a key in " + signers if signers else "nobody asked who signed it (stack_bundle_signers)"
    count, size = len(bundle.manifest.files), bundle.manifest.bytes
    line = f"{bundle.source.shown}: {count} files, {size / 1e6:,.0f} MB, each as the manifest says; {signed}"
    no_bytes = {"fetched_bytes": 0, "reused_bytes": 0, "paths": []}
    return {"changed": False, "files": count, "bytes": size, **no_bytes, "lines": [line], "diff": {}}


def _paths(files: Any) -> str:
    return "".join(f"{file.path} {file.sha256[:12]}\n" for file in files)


def _lines_of_run(directory: str, outcome: BundleOutcome, *, check_mode: bool) -> list[str]:
    if check_mode:
        return [outcome.size_line]
    fetched = f"{outcome.fetched_bytes / 1e6:,.0f} MB"
    return [f"Fetched {fetched} to {directory}, from which {len(outcome.paths)} files are served"]


def _lines(directory: str, outcome: BundleOutcome, *, check_mode: bool) -> list[str]:
    left_out = [
        f"Not in the bundle, because they are the distribution's own: {', '.join(outcome.left_out)}. Nodes take them "
        "from the distribution's mirror."
    ]
    if check_mode:
        return [outcome.size_line, *(left_out if outcome.left_out else [])]
    manifest = outcome.manifest
    lines = [
        f"{directory}: {len(manifest.files)} files, {manifest.bytes / 1e6:,.0f} MB; fetched "
        f"{outcome.fetched_bytes / 1e6:,.0f} MB, taken from an older bundle {outcome.reused_bytes / 1e6:,.0f} MB",
        "manifest.json is signed" if outcome.is_signed else "manifest.json is not signed: set bundle_signing_key",
    ]
    lines += left_out if outcome.left_out else []
    release = manifest.plans[-1].release
    return [*lines, f"Use it: make workstation BUNDLE={directory} TENSORFLOW={release}"]
