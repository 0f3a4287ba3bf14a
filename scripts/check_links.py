#!/usr/bin/env python3
"""Ask for every address that a page links to, and name those that are gone.

Ends with 1 if a server says that a page is gone (404, 410). A server that is not reached, or answers only browsers,
is named and no error: that says nothing about the page.
"""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from make_site import pages

ADDRESS = re.compile(r"\]\((https?://[^)\s]+)\)|<(https?://[^>\s]+)>")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
# RFC 2606: of nobody.
EXAMPLE = re.compile(r"https?://(?:[\w-]+\.)*(?:example(?:\.(?:com|org|net))?|localhost|invalid)(?=[:/]|$)")
GONE = (404, 410)
SECONDS = 20


def addresses(paths: Iterable[Path]) -> dict[str, list[str]]:
    """Each linked address, without its anchor, and the pages that link to it."""
    found: dict[str, list[str]] = {}
    for path in paths:
        text = FENCE.sub("", path.read_text(encoding="utf-8"))
        for address in {(one or other).partition("#")[0] for one, other in ADDRESS.findall(text)}:
            if not EXAMPLE.match(address):
                found.setdefault(address, []).append(path.name)
    return found


def ask(address: str) -> tuple[bool, str]:
    """Whether the page may exist, and what is to be said of it."""
    request = urllib.request.Request(address, headers={"User-Agent": "link check"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS):
            return True, ""
    except urllib.error.HTTPError as error:
        error.close()
        return error.code not in GONE, f"answers {error.code}"
    except (OSError, ValueError) as error:
        return True, f"is not reached: {getattr(error, 'reason', error)}"


def check(linked: dict[str, list[str]]) -> int:
    with ThreadPoolExecutor(8) as pool:
        answers = dict(zip(linked, pool.map(ask, linked)))
    for address, (_, said) in sorted(answers.items()):
        if said:
            print(f"{address} {said} ({', '.join(linked[address])})")
    gone = sum(not exists for exists, _ in answers.values())
    print(f"{len(linked)} addresses, {gone} gone")
    return 1 if gone else 0


if __name__ == "__main__":
    sys.exit(check(addresses(pages())))
