#!/usr/bin/env python3
"""Look for what the tables lack: releases, driver branches, CUDA, advisories; and for what has ended.

    .venv/bin/python scripts/find_news.py                           what is new
    .venv/bin/python scripts/find_news.py --add --summary news.md   add rows, locks and proofs, as the nightly run does

A source that does not answer is named, and the others are asked. CUDA gets no row: only NVIDIA's pages have
its drivers.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "module_utils"), str(REPOSITORY / "scripts")]

import check_releases  # noqa: E402  # found by the line above
from add_release import TABLES, add_row  # noqa: E402
from tensorflow_stack.tables.load import Tables, load_tables  # noqa: E402

DRIVERS = "https://docs.nvidia.com/datacenter/tesla/drivers/releases.json"
CUDA = "https://developer.download.nvidia.com/compute/cuda/redist/"
ADVISORIES = "https://api.osv.dev/v1/query"
ANSWER_BYTES = 64 << 20


@dataclass
class News:
    """Lines for a person by what they are about; rows that can be added, by table, each with its key."""

    lines: dict[str, list[str]] = field(default_factory=dict)
    rows: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    releases: list[str] = field(default_factory=list)

    def say(self, about: str, line: str) -> None:
        self.lines.setdefault(about, []).append(line)


def fetch(url: str, body: Mapping[str, Any] | None = None) -> str:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"} if data else {})
    with urllib.request.urlopen(request, timeout=60) as response:
        text: bytes = response.read(ANSWER_BYTES)
    return text.decode()


def find_branches(answer: str, known: Iterable[int]) -> list[int]:
    """Driver branches newer than the oldest known one that the table lacks. The answer has a key for each branch."""
    known = set(known)
    found = {int(key) for key in json.loads(answer) if re.fullmatch(r"\d{3,4}", key)}
    return sorted(branch for branch in found - known if branch > min(known))


def find_cuda(answer: str, known: Iterable[str]) -> list[str]:
    """Minors of CUDA that the listing of NVIDIA's archives has and the table lacks."""
    as_numbers = {tuple(map(int, minor.split("."))) for minor in known}
    found = {(int(major), int(minor)) for major, minor in re.findall(r"redistrib_(\d+)\.(\d+)\.\d+\.json", answer)}
    return [f"{major}.{minor}" for major, minor in sorted(found - as_numbers) if (major, minor) > min(as_numbers)]


def find_advisories(answer: str, known: Iterable[str], since: str) -> list[dict[str, str]]:
    """Advisories that were published since a day and that the table lacks, with what fixes them."""
    known = set(known)
    found = []
    for row in json.loads(answer).get("vulns", []):
        names = [row["id"], *row.get("aliases", ())]
        if known & set(names) or row.get("published", "") <= since or "withdrawn" in row:
            continue
        events = [
            event
            for one in row.get("affected", ())
            for part in one.get("ranges", ())
            for event in part.get("events", ())
        ]
        fixed = [event["fixed"] for event in events if re.fullmatch(r"\d+\.\d+\.\d+", event.get("fixed", ""))]
        name = next((name for name in names if name.startswith("CVE-")), row["id"])
        what = " ".join(str(row.get("summary") or row.get("details") or "").split())[:80]
        found.append(
            {"advisory": name, "what": what.replace('"', "'"), "fixed_in": max(fixed, key=_numbers, default="")}
        )
    return sorted(found, key=lambda row: row["advisory"])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def ended(tables: Mapping[str, list[dict[str, Any]]], today: str) -> list[str]:
    """What reached its last month since a plan could begin to say so: in this month or the one before."""
    year, month = (int(part) for part in today.split("-")[:2])
    months = {f"{year}-{month:02}", f"{year - (month == 1)}-{(month - 2) % 12 + 1:02}"}
    return [
        f"{what} {row[key]} has no fixes after {row['end_of_life']}"
        for what, table, key in (("driver branch", "driver_branches", "branch"), ("Python", "python_lives", "minor"))
        for row in tables[table]
        if row["end_of_life"] in months
    ]


def _content(table: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((TABLES / f"{table}.yml").read_text(encoding="utf-8"))
    return content


def look(tables: Tables, index: check_releases.Index, ask: Callable[..., str], today: str) -> News:
    """Everything that is new; `ask` gets a URL, and a body if it is a question."""
    news = News()
    names = ("driver_branches", "python_lives", "vulnerabilities", "cuda_drivers")
    content = {name: _content(name) for name in names}
    rows = {name: content[name]["rows"] for name in names}

    def releases() -> None:
        news.releases = check_releases.unknown_releases(tables, index)
        for version in news.releases:
            news.say("Releases", f"TensorFlow {version}: make release VERSION={version}")

    def branches() -> None:
        for branch in find_branches(ask(DRIVERS), (row["branch"] for row in rows["driver_branches"])):
            row = f"  - {{branch: {branch}, kernel_modules: open, end_of_life: null, cuda: null, source: [unverified]}}"
            news.rows.setdefault("driver_branches", []).append((row, f"branch: {branch},"))
            news.say("Drivers", f"branch {branch}: its last month, its CUDA and its kernel modules ({DRIVERS})")

    def cuda() -> None:
        for minor in find_cuda(ask(CUDA), (row["cuda"] for row in rows["cuda_drivers"])):
            news.say("CUDA", f"CUDA {minor}: a row of cuda_drivers.yml, from the release notes of the toolkit")

    def advisories() -> None:
        since = max(str(source["date"]) for source in content["vulnerabilities"]["sources"].values())
        question = {"package": {"name": "tensorflow", "ecosystem": "PyPI"}}
        answer = ask(ADVISORIES, question)
        for found in find_advisories(answer, (row["advisory"] for row in rows["vulnerabilities"]), since):
            news.say(
                "Advisories", f"{found['advisory']}: {found['what']}, fixed in {found['fixed_in'] or 'no release'}"
            )
            if found["fixed_in"]:
                row = (
                    f'  - {{advisory: {found["advisory"]}, releases: "<{found["fixed_in"]}", '
                    f'what: "{found["what"]}", fixed_in: "{found["fixed_in"]}", source: [advisories]}}'
                )
                news.rows.setdefault("vulnerabilities", []).append((row, f"advisory: {found['advisory']},"))

    for name, find in (("Releases", releases), ("Drivers", branches), ("CUDA", cuda), ("Advisories", advisories)):
        try:
            find()
        except (OSError, ValueError, KeyError, TypeError) as error:
            news.say("Not answered", f"{name}: {type(error).__name__}: {error}")
    for line in ended(rows, today):
        news.say("Ended", line)
    return news


def add(news: News) -> None:
    """Write the rows; a release that fails is named, so that the others are there."""
    for table, rows in news.rows.items():
        for row, key in rows:
            add_row(table, row, key)
    for version in news.releases:
        done = subprocess.run([sys.executable, "scripts/add_release.py", version], cwd=REPOSITORY, check=False)
        if done.returncode:
            news.say("Releases", f"TensorFlow {version} was not added as a whole: see the log of this run")


def summary(news: News) -> str:
    if not news.lines:
        return "Nothing is new.\n"
    parts = [f"## {about}\n\n" + "".join(f"- {line}\n" for line in lines) for about, lines in news.lines.items()]
    return "\n".join([*parts, "A person has to judge each row before this is merged: CONTRIBUTING.md says what.\n"])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--add", action="store_true", help="add rows, locks and proofs")
    parser.add_argument("--summary", type=Path, help="file for what was found, in Markdown")
    parser.add_argument("--index-url", default="https://pypi.org/simple", help="default: %(default)s")
    options = parser.parse_args(arguments)
    index = check_releases.Index(options.index_url)
    news = look(load_tables(str(TABLES)), index, fetch, datetime.date.today().isoformat())
    if options.add:
        add(news)
    text = summary(news)
    if options.summary:
        options.summary.write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
