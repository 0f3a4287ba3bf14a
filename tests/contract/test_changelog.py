"""Each change that users notice has a fragment, and changelog and collection name one version."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import check_changes
import pytest
import yaml
from make_collection import GALAXY

REPOSITORY = Path(__file__).resolve().parents[2]
CHANGELOGS = REPOSITORY / "changelogs"
SECTIONS = [name for name, _ in yaml.safe_load((CHANGELOGS / "config.yaml").read_text())["sections"]]


def test_what_users_notice_since_the_last_release_is_in_a_fragment() -> None:
    try:
        assert check_changes.problem(REPOSITORY, None) is None
    except check_changes.NoGitError as error:
        pytest.skip(f"not a clone: {error}")


def test_the_version_of_the_collection_is_semantic_and_in_the_changelog() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", GALAXY["version"])
    assert check_changes.newest_release(REPOSITORY) == GALAXY["version"]
    assert f'<a id="v{GALAXY["version"].replace(".", "-")}"></a>' in (REPOSITORY / "CHANGELOG.md").read_text()


def fragment_problems(content: dict[str, object]) -> list[str]:
    found = [f"{name} is no section" for name in content if name not in (*SECTIONS, "trivial", "release_summary")]
    kinds = {name: str if name == "release_summary" else list for name in content}
    return found + [
        f"{name} is no {kinds[name].__name__}" for name in content if not isinstance(content[name], kinds[name])
    ]


def test_fragments_have_sections_of_texts() -> None:
    """None exist right after a release."""
    paths = sorted((CHANGELOGS / "fragments").glob("*.yml"))
    assert [
        (path.name, found) for path in paths if (found := fragment_problems(yaml.safe_load(path.read_text())))
    ] == []
    assert fragment_problems({"bugfix": ["x"], "bugfixes": "x"}) == ["bugfix is no section", "bugfixes is no list"]


class Clone:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.git("init", "--quiet", "--initial-branch=main")
        self.write("changelogs/changelog.yaml", "releases: {0.9.0: {}, 0.10.0: {}}\n")
        self.commit()

    def git(self, *arguments: str) -> None:
        names = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(self.path), *names, *arguments], check=True)

    def write(self, name: str, text: str = "text\n") -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=Change")


def test_a_change_without_a_fragment_is_refused(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    clone.write("library/a.py")
    # Nothing was released.
    assert check_changes.problem(tmp_path, None) is None
    clone.commit()
    clone.git("tag", "v0.10.0")
    clone.write("docs/use.md")
    clone.write("roles/a/molecule/default/verify.yml")
    assert check_changes.problem(tmp_path, None) is None
    clone.git("switch", "--quiet", "--create", "mine")
    clone.write("library/a.py", "other\n")
    clone.commit()
    for base in (None, "main"):
        said = check_changes.problem(tmp_path, base)
        assert said is not None
        assert "Users notice changes of library/a.py since" in said
        assert "Add one, such as changelogs/fragments/my-change.yml" in said
    clone.write("changelogs/fragments/mine.yml", "bugfixes: [It works.]\n")
    assert check_changes.problem(tmp_path, "main") is None
    clone.commit()
    assert check_changes.problem(tmp_path, "main") is None
    # The fragment of somebody else's change.
    clone.git("branch", "--force", "main", "mine")
    clone.write("playbooks/plan.yml")
    assert check_changes.problem(tmp_path, "main") is not None


def test_a_base_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_changes.main(["--base", "nosuch"]) == 1
    assert "Fetch the whole history, or name another --base." in capsys.readouterr().err
