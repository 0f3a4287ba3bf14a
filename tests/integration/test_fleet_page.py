"""The page of a fleet in headless Chromium: looks, keyboard, screen reader, policy, print, and speed with 1,000 nodes.

FLEET_SHOTS=<directory> keeps the pictures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.fleet.page import page

from tests import fleets, needs
from tests.browser import Page, chromium
from tests.unit.module_utils.fleet.test_exports import hostile

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,  # a browser: 500 MB to install, and a minute
]

TAB, ENTER = ("Tab", 9), ("Enter", 13)
# Milliseconds of the page's own CPU time until the next frame is painted, for a filter or a sort.
AT_MOST = 200


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    needs.require("chromium", "fonts-dejavu-core")
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pages")
    for count in (1, 40, 1000):
        (directory / f"{count}.html").write_text(page(fleets.fleet(count)), encoding="utf-8")
    (directory / "hostile.html").write_text(page(hostile("<script>window.bad = 1</script>")), encoding="utf-8")
    return directory


def shots(tmp_path: Path) -> Path:
    directory = Path(os.environ.get("FLEET_SHOTS", tmp_path))
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def faults(tab: Page) -> list[Any]:
    """What the browser complains of, and what the page asked the network for."""
    complaints = [event for event in tab.events if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")]
    asked = [
        event["params"]["request"]["url"] for event in tab.events if event.get("method") == "Network.requestWillBeSent"
    ]
    return complaints + [url for url in asked if not url.startswith(("file:", "data:"))]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1280])
@pytest.mark.parametrize("count", [1, 40])
def test_page_fits_its_screen(tab: Page, pages: Path, tmp_path: Path, width: int, scheme: str, count: int) -> None:
    tab.open(pages / f"{count}.html", width=width, scheme=scheme)
    tab.screenshot(shots(tmp_path) / f"{count}_nodes_{width}_{scheme}.png", whole=True)
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert faults(tab) == []
    # Nothing is smaller than what one can read or touch.
    assert (
        tab.run("Math.min(...[...document.querySelectorAll('*')].map(e => parseFloat(getComputedStyle(e).fontSize)))")
        >= 12
    )
    heights = "[...document.querySelectorAll('.tools button, .tools input, .tools select')].map(e => e.offsetHeight)"
    assert [height for height in tab.run(heights) if 0 < height < 40] == []


def test_header_and_first_column_stay(tab: Page, pages: Path) -> None:
    tab.open(pages / "1000.html", width=800)
    tab.run("document.querySelector('.matrix').scrollTo(300, 2000)")
    places = tab.run(
        """(() => {
          const box = document.querySelector('.matrix').getBoundingClientRect();
          const head = document.querySelector('thead th:last-child').getBoundingClientRect();
          const row = [...document.querySelectorAll('tbody th')].find(
            (one) => one.getBoundingClientRect().top > box.top + 100).getBoundingClientRect();
          return [head.top - box.top, row.left - box.left];
        })()"""
    )
    assert [round(place) for place in places] == [1, 1]  # below and beside the border


def test_keyboard_alone_finds_and_sorts(tab: Page, pages: Path) -> None:
    tab.open(pages / "40.html", width=1280)
    tab.press(*TAB)
    assert tab.run("document.activeElement.className") == "skip"
    tab.run("document.getElementById('find').focus()")
    for letter in "gpu18":
        tab.press(letter, 0, text=letter)
    assert tab.run("document.getElementById('found').textContent") == "1 of 40 rows"
    tab.run("document.getElementById('reset').focus()")
    tab.press(*ENTER, text="\r")
    assert tab.run("document.getElementById('found').textContent") == "40 of 40 rows"
    tab.run("document.querySelectorAll('thead button')[1].focus()")
    assert tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.press(*ENTER, text="\r")
    assert tab.run("document.querySelector('tbody tr').dataset.state") == "failed"
    tab.press(*ENTER, text="\r")
    assert tab.run("document.querySelector('tbody tr').dataset.state") == "proven"
    assert tab.run("document.querySelectorAll('thead th')[1].getAttribute('aria-sort')") == "descending"


def test_filters_by_state_and_drift(tab: Page, pages: Path) -> None:
    tab.open(pages / "40.html", width=1280)
    for value, rows in {"failed": 2, "drift": 1, "proven": 33, "": 40}.items():
        tab.run(f"document.getElementById('state').value = '{value}'")
        tab.run("document.getElementById('state').dispatchEvent(new Event('change'))")
        assert tab.run("[...document.querySelectorAll('tbody tr')].filter(r => !r.hidden).length") == rows
    tab.run("document.getElementById('find').value = 'nowhere'")
    tab.run("document.getElementById('find').dispatchEvent(new Event('input'))")
    assert tab.run("document.querySelector('.none').hidden") is False


@pytest.mark.parametrize("width", [360, 1280])
def test_screen_reader_has_a_table(tab: Page, pages: Path, width: int) -> None:
    tab.open(pages / "40.html", width=width)
    tree = tab.tree()
    roles = [node["role"] for node in tree]
    assert roles.count("table") == 1
    assert roles.count("columnheader") == 7
    assert roles.count("rowheader") == 40
    names = [node["name"] for node in tree]
    assert "Found and wanted version of each component on each node, with its verdict" in names
    assert any(node["role"] == "heading" and node["name"] == "33 of 40 nodes compute; 4 need you" for node in tree)
    assert [
        node for node in tree if node["role"] in ("textbox", "searchbox", "combobox", "button") and not node["name"]
    ] == []
    # A sign is read as its word.
    assert any("failed" in name for name in names)
    assert not any("\N{MULTIPLICATION X}" in name for name in names)


def test_what_a_node_says_does_not_run(tab: Page, pages: Path) -> None:
    tab.open(pages / "hostile.html", width=1280)
    assert tab.run("window.bad") is None
    # Nor what somebody would put into the page.
    tab.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.bad = 1\">')")
    tab.run("new Promise(resolve => setTimeout(resolve, 200))")
    assert tab.run("window.bad") is None


def test_print_has_every_node_and_no_tools(tab: Page, pages: Path, tmp_path: Path) -> None:
    tab.open(pages / "40.html", width=1280, scheme="dark")
    tab.emulate(width=1280, scheme="dark", media="print")
    assert tab.run("getComputedStyle(document.querySelector('.tools')).display") == "none"
    assert tab.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert tab.run(
        "document.querySelector('.matrix').scrollHeight <= document.querySelector('.matrix').clientHeight + 2"
    )
    tab.pdf(shots(tmp_path) / "print.pdf")
    assert (shots(tmp_path) / "print.pdf").stat().st_size > 10000
    tab.emulate(width=1280)


def milliseconds(tab: Page, script: str) -> float:
    """CPU time of the page's thread for a script and the frame that shows what it did."""

    def spent() -> float:
        metrics = tab.call("Performance.getMetrics")["metrics"]
        return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))

    before = spent()
    tab.run(f"(async () => {{ {script}; await new Promise((r) => requestAnimationFrame(() => setTimeout(r))); }})()")
    return 1000 * (spent() - before)


def test_thousand_nodes_are_filtered_and_sorted_at_once(tab: Page, pages: Path) -> None:
    tab.open(pages / "1000.html", width=1280, height=1000)
    tab.run("document.getElementById('nodes').scrollIntoView({behavior: 'instant'})")
    tab.call("Performance.enable", timeDomain="threadTicks")
    find = "const f = document.getElementById('find'); f.value = '{}'; f.dispatchEvent(new Event('input'))"
    took = {f"find {text!r}": milliseconds(tab, find.format(text)) for text in ("gpu00", "nowhere", "driver", "")}
    for column in (0, 1, 2, 6, 6):
        sort = f"document.querySelectorAll('thead button')[{column}].click()"
        took[f"sort {column}"] = max(milliseconds(tab, sort), took.get(f"sort {column}", 0))
    print({name: round(value) for name, value in took.items()})
    assert {name: value for name, value in took.items() if value > AT_MOST} == {}
