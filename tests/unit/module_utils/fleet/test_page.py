"""The page of a fleet: complete, without anything from elsewhere, and with every text escaped.

What it looks like, and how fast it is, tests/integration/test_fleet_page.py sees in a browser.
"""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.fleet.page import page

from tests import fleets
from tests.unit.module_utils.fleet.test_exports import HOSTILE, hostile

STYLE = Path(page.__code__.co_filename).with_name("page.css").read_text(encoding="utf-8")
VOID = {"meta", "link", "input", "br", "col"}


class Parsed(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def text(self, tag: str) -> str:
        return "".join(text for name, text in self.texts if name == tag)


@pytest.fixture(scope="module")
def parsed() -> Parsed:
    return Parsed(page(fleets.fleet(40)))


def test_answer_is_the_title_and_the_first_line(parsed: Parsed) -> None:
    assert parsed.text("title") == "33 of 40 nodes compute; 4 need you; 3 not begun"
    assert parsed.text("h1") + parsed.text("em") == "33 of 40 nodes compute; 4 need you"


def test_every_node_is_a_row_and_those_that_need_somebody_come_before(parsed: Parsed) -> None:
    rows = [attributes["data-state"] for attributes in parsed.all("tr") if "data-state" in attributes]
    assert len(rows) == 40
    whole = page(fleets.fleet(40))
    order = [whole.index(text) for text in ("What needs you", fleets.CAUSE["says"], fleets.CAUSE["do"], "<table")]
    assert order == sorted(order)


def test_nothing_comes_from_elsewhere(parsed: Parsed) -> None:
    addresses = [
        value
        for _, attributes in parsed.tags
        for name, value in attributes.items()
        if name in ("src", "href", "action", "srcset") and value
    ]
    assert [address for address in addresses if not address.startswith(("#", "data:,"))] == []
    assert not re.search(r"@import|url\(|\bfetch\(|XMLHttpRequest", STYLE + parsed.text("script"))


def test_policy_allows_the_one_script_and_style(parsed: Parsed) -> None:
    policy = next(one["content"] for one in parsed.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    for tag in ("script", "style"):
        assert len(parsed.all(tag)) == 1
        digest = base64.b64encode(hashlib.sha256(parsed.text(tag).encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not [
        attributes for _, attributes in parsed.tags for name in attributes if name == "style" or name[:2] == "on"
    ]


def test_table_is_one_for_a_screen_reader(parsed: Parsed) -> None:
    assert len(parsed.all("caption")) == 1
    assert [one["scope"] for one in parsed.all("th")] == ["col"] * 7 + ["row"] * 40
    # Explicit, because a row that is a grid is none for a browser.
    roles = {tag: {one.get("role") for one in parsed.all(tag)} for tag in ("table", "tr", "td")}
    assert roles == {"table": {"table"}, "tr": {"row"}, "td": {"cell"}}
    assert [one.get("aria-live") for one in parsed.all("p") if one.get("role") == "status"] == ["polite"]
    labelled = re.findall("<label[^>]*>[^<]+<(?:input|select)", page(fleets.fleet(1)))
    assert len(labelled) == len(parsed.all("input")) + len(parsed.all("select"))


@pytest.mark.parametrize("text", [text for text in HOSTILE if text != "\ud800"])
def test_what_a_node_says_is_text(text: str) -> None:
    made = Parsed(page(hostile(text)))
    assert len(made.all("script")) == 1
    assert len([one for one in made.all("tr") if "data-state" in one]) == 40
    assert any(text.replace("\x00", "\ufffd") in shown.replace("\x00", "\ufffd") for _, shown in made.texts)


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_fleet_of_any_size(count: int) -> None:
    rows = [one for one in Parsed(page(fleets.fleet(count))).all("tr") if "data-state" in one]
    assert len(rows) == count


def test_node_with_two_environments_has_a_row_for_each() -> None:
    made = fleets.fleet(1)
    node = made["nodes"][0]
    node["environments"] = [{**node["environments"][0], "name": name} for name in ("old", "new")]
    parsed = Parsed(page(made))
    assert [text for _, text in parsed.texts if text in ("old", "new")] == ["old", "new"]
    anchors = [one["id"] for one in parsed.all("th") if one.get("id")]
    assert len(anchors) == len(set(anchors)) == 1


# --------------------------------------------------------------------------------------------- contrast


def luminance(colour: str) -> float:
    """As WCAG 2.2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


def themes() -> list[dict[str, Any]]:
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    return [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in blocks]


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark", "print"])
@pytest.mark.parametrize("ground", ["paper", "surface"])
def test_every_text_is_readable(theme: dict[str, str], ground: str) -> None:
    """At least 4.5 to 1, as level AA asks of normal text."""
    for name in ("ink", "muted", "bad", "wait", "info", "good"):
        assert contrast(theme[name], theme[ground]) >= 4.5, name
    assert contrast("#000000", "#ffffff") == 21
