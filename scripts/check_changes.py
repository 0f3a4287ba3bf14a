#!/usr/bin/env python3
"""Refuse a change that users notice and that the changelog does not say.

    .venv/bin/python scripts/check_changes.py --base origin/main     a branch, as CI does with a request
    .venv/bin/python scripts/check_changes.py                        everything since the tag of the newest release

Needs no network. Without --base and without that tag there is nothing to compare, because no version was released.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
FRAGMENTS = "changelogs/fragments/"
# What users run or read as an interface; scenarios are tests.
FOR_USERS = ("action_plugins/", "callback_plugins/", "library/", "module_utils/", "playbooks/", "roles/", "Makefile")
NOT_FOR_USERS = ("/molecule/", "/README.md")


class NoGitError(Exception):
    """git cannot answer."""


def git(repository: Path, *arguments: str) -> list[str]:
    done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoGitError(done.stderr.strip())
    return done.stdout.splitlines()


def newest_release(repository: Path) -> str:
    content = yaml.safe_load((repository / "changelogs" / "changelog.yaml").read_text(encoding="utf-8"))
    return str(max(content["releases"], key=lambda version: tuple(map(int, version.split(".")))))


def problem(repository: Path, base: str | None) -> str | None:
    """Why the changes since a base are refused. A fragment of the base's own does not count."""
    if base is None:
        base = f"v{newest_release(repository)}"
        if base not in git(repository, "tag", "--list", base):
            return None
    since = git(repository, "merge-base", base, "HEAD")[0]
    changed = git(repository, "diff", "--name-only", since)
    changed += git(repository, "ls-files", "--others", "--exclude-standard")
    noticed = [
        path for path in changed if path.startswith(FOR_USERS) and not any(part in path for part in NOT_FOR_USERS)
    ]
    added = git(
        repository, "diff", "--name-only", "--diff-filter=AM", since, "--", FRAGMENTS, "changelogs/changelog.yaml"
    )
    added += [path for path in changed if path.startswith(FRAGMENTS) and (repository / path).is_file()]
    if not noticed or added:
        return None
    shown = ", ".join(noticed[:3]) + (" and others" if len(noticed) > 3 else "")
    return (
        f"Users notice changes of {shown} since {base}, and no file in {FRAGMENTS} says so. Add one, such as "
        f"{FRAGMENTS}my-change.yml with the line 'minor_changes: [One sentence for users.]', or with 'trivial: [...]' "
        "if they cannot notice it."
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--base", help="branch, tag or commit to compare with; the tag of the newest release if not set"
    )
    try:
        found = problem(REPOSITORY, parser.parse_args(arguments).base)
    except NoGitError as error:
        found = f"The changes cannot be compared: {error}. Fetch the whole history, or name another --base."
    if found:
        print(f"check_changes: {found}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
