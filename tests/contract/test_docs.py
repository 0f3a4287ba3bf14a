"""What the documentation names is there, and what of it is generated is current."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import markdown_tables
import pytest
import yaml

from scripts import make_docs

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "roles/*/README.md", "tests/**/*.md")
    for path in REPOSITORY.glob(pattern)
)
ARCHITECTURE = REPOSITORY / "docs" / "architecture.md"
DECISIONS = sorted((REPOSITORY / "docs" / "decisions").glob("[0-9]*.md"))

LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^ {4}(?P<body>\S.*)$", re.MULTILINE)
INLINE = re.compile(r"`(?P<body>[^`\n]+)`")
PLACES = r"playbooks|scripts|roles|tests|docs|library|module_utils|inventories|requirements|\w+_plugins|reports"
FILE = re.compile(rf"(?:{PLACES})/[\w./-]*")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def code_in(text: str) -> Iterator[str]:
    """Every piece of code, one a line of a block or one inline."""
    for match in FENCE.finditer(text):
        yield from match["body"].splitlines()
    prose = FENCE.sub("", text)
    yield from (match["body"] for pattern in (INDENTED, INLINE) for match in pattern.finditer(prose))


def anchors_of(text: str) -> set[str]:
    """The anchors that GitHub gives to headings."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(path: Path, text: str) -> list[str]:
    found = []
    for match in LINK.finditer(FENCE.sub("", text)):
        file, _, anchor = match["target"].partition("#")
        if re.match(r"[a-z]+:", file):
            continue
        target = path.parent / file if file else path
        if not target.exists() or (anchor and anchor not in anchors_of(read(target))):
            found.append(match["target"])
    return found


def missing_files(text: str) -> list[str]:
    named = {code for code in code_in(text) for code in code.split() if FILE.fullmatch(code)}
    return sorted(name for name in named if not (REPOSITORY / name).exists())


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def document(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_there_are_documents() -> None:
    assert {"README.md", "CONTRIBUTING.md", "architecture.md"} <= {path.name for path in DOCUMENTS}


def test_generated_parts_are_current() -> None:
    command = [sys.executable, "scripts/make_docs.py", "--check"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_links_lead_somewhere(document: Path) -> None:
    assert broken_links(document, read(document)) == []


def test_files_that_are_named_are_there(document: Path) -> None:
    assert missing_files(read(document)) == []


def test_yaml_parses(document: Path) -> None:
    for match in FENCE.finditer(read(document)):
        if match["language"] == "yaml":
            assert yaml.safe_load(match["body"])


def test_examples_of_roles_are_playbooks(tmp_path: Path) -> None:
    examples = []
    for readme in (REPOSITORY / "roles").glob("*/README.md"):
        bodies = [match["body"] for match in FENCE.finditer(read(readme)) if match["language"] == "yaml"]
        assert len(bodies) == 1, readme
        assert f"name: {readme.parent.name}\n" in bodies[0], readme
        example = tmp_path / f"{readme.parent.name}.yml"
        example.write_text(bodies[0])
        examples.append(str(example))
    ansible_playbook = str(Path(sys.executable).parent / "ansible-playbook")
    command = [ansible_playbook, "-i", "inventories/workstation", "--syntax-check", *examples]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_decisions_have_one_form(path: Path) -> None:
    text = read(path)
    assert re.match(rf"# {path.name[:4]}: \S", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequence"]
    title = text.splitlines()[0].removeprefix("# ")
    assert f"- [{title}]({path.name})\n" in read(path.parent / "README.md")


def test_decisions_are_numbered() -> None:
    numbers = [int(path.name[:4]) for path in DECISIONS]
    assert numbers == list(range(1, len(numbers) + 1))


class TestCheckers:
    """Each of them sees what it is there for."""

    def test_a_stale_part(self) -> None:
        text = "a\n<!-- begin one, by scripts/make_docs.py -->\nold\n<!-- end -->\nb\n"
        filled = make_docs.fill(text, {"one": lambda: "new\n"})
        assert filled == text.replace("old", "new")
        assert make_docs.fill(filled, {"one": lambda: "new\n"}) == filled

    @pytest.mark.parametrize("parts", [{}, {"two": str}, {"one": str, "two": str}], ids=["none", "other", "one_more"])
    def test_a_part_that_is_not_marked_or_not_made(self, parts: dict[str, type[str]]) -> None:
        with pytest.raises(ValueError, match="marked parts are one, not"):
            make_docs.fill("<!-- begin one, by scripts/make_docs.py -->\n<!-- end -->", parts)

    @pytest.mark.parametrize(
        ("default", "expected"),
        [
            ("{{ name | default('auto', true) }}", ("name", "auto")),
            ("{{ name | default(2) }}", ("name", 2)),
            ("{{ plan.release | default('') }}", None),
            ("{{ name | default('a') | upper }}", None),
            ("x{{ name | default('a') }}", None),
            ("plain", None),
            (2, None),
        ],
    )
    def test_a_variable_of_the_inventory(self, default: object, expected: object) -> None:
        assert make_docs.inventory_variable(default) == expected

    def test_a_bar_and_a_placeholder_in_a_table(self) -> None:
        assert markdown_tables.cell("a | `<b>` <c>") == "a \\| `<b>` &lt;c>"

    def test_a_broken_link(self, tmp_path: Path) -> None:
        (tmp_path / "there.md").write_text("# One `title`, here\n")
        text = "[a](there.md) [b](there.md#one-title-here) [c](gone.md) [d](there.md#two) [e](https://example.org)"
        assert broken_links(tmp_path / "x.md", text) == ["gone.md", "there.md#two"]

    def test_a_file_that_is_not_there(self) -> None:
        assert missing_files("`playbooks/plan.yml`\n```\nrun playbooks/gone.yml\n```\n") == ["playbooks/gone.yml"]
