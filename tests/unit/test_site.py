"""How the pages become a site, and how links to others are looked at."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import check_links
import make_site
import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_directory_is_linked_as_a_page_and_files_are_taken_along(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "examples").mkdir()
    page = tmp_path / "docs" / "a.md"
    page.write_text("x")
    linked: set[Path] = set()
    text = "[a](../examples) [b](a.md#x) [c](https://example.org) [d](#x)\n```\n[e](../examples)\n```\n"
    made = make_site.with_links(page, text, linked)
    assert made == text.replace("[a](../examples)", "[a](../examples/README.md)")
    assert linked == {tmp_path / "examples", page}


def test_every_page_for_users_is_in_the_navigation() -> None:
    text = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r"[\w/]+\.md", yaml.dump(yaml.safe_load(text)["nav"]))
    assert len(named) == len(set(named))
    assert {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").glob("*.md")} <= set(named)


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path.strip("/")))
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


def test_only_what_a_server_says_is_gone_is_an_error(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    unreached = "http://127.0.0.1:1/200"
    assert check_links.check({f"{server}/200": ["a.md"], f"{server}/403": ["a.md"], unreached: ["a.md"]}) == 0
    assert check_links.check({f"{server}/404": ["a.md", "b.md"]}) == 1
    said = capsys.readouterr().out
    assert f"{server}/200 " not in said
    assert f"{server}/403 answers 403 (a.md)" in said
    assert f"{unreached} is not reached: " in said
    assert f"{server}/404 answers 404 (a.md, b.md)\n1 addresses, 1 gone\n" in said


def test_examples_and_code_are_no_links(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text(
        "[a](https://bundle.example/x) [b](https://x.example.org) <https://a.b/c#d> [c](https://a.b/c)\n"
        "```\n[d](https://e.f)\n```\n"
    )
    assert check_links.addresses([page]) == {"https://a.b/c": ["a.md"]}
