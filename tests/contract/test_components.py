"""The table of components is what roles, playbooks and modules go by; roles do not read one another."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.tensorflow_stack.records.component import COMPONENTS, LIBRARIES, Component
from ansible.module_utils.tensorflow_stack.records.libraries import OPENED

REPOSITORY = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (REPOSITORY / "roles").iterdir() if path.is_dir())
# Takes the results of the others as inputs.
REPORTS = "stack_report"


def read(*parts: str) -> str:
    return REPOSITORY.joinpath(*parts).read_text(encoding="utf-8")


def tasks_of(role: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((role / "tasks").glob("*.yml")))


def choices(module: str) -> list[str]:
    documentation = yaml.safe_load(importlib.import_module(f"ansible.modules.{module}").DOCUMENTATION)
    found: list[str] = documentation["options"]["component"]["choices"]
    return found


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.name)
class TestComponent:
    def test_it_has_a_role_with_a_result(self, component: Component) -> None:
        assert f"register: {component.role}_result\n" in tasks_of(REPOSITORY / "roles" / component.role)

    def test_its_result_is_reported_and_verified(self, component: Component) -> None:
        result = f"{component.role}_result | default({{}})"
        assert f'{component.name}: "{{{{ {result} }}}}"' in read("roles", REPORTS, "defaults", "main.yml")
        assert f'{component.label}: "{{{{ {result} }}}}"' in read("playbooks", "verify.yml")


def test_modules_and_roles_know_the_same_components() -> None:
    names, libraries = ([component.name for component in rows] for rows in (COMPONENTS, LIBRARIES))
    assert choices("nvidia_packages") == names
    assert choices("nvidia_redist") == choices("nvidia_libraries_info") == list(OPENED) == libraries


def results_of(tasks: str) -> set[str]:
    return set(re.findall(r"^\s*register: (\w+)$", tasks, re.MULTILINE))


def foreign_results(role: str, text: str, registered: dict[str, set[str]]) -> list[str]:
    """Results of other roles that a role's text names outside of comments."""
    code = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    return sorted(
        name
        for other, names in registered.items()
        for name in names
        if other != role and re.search(rf"\b{name}\b", code)
    )


@pytest.mark.parametrize("role", [role for role in ROLES if role.name != REPORTS], ids=lambda role: role.name)
def test_a_role_reads_no_result_of_another(role: Path) -> None:
    registered = {other.name: results_of(tasks_of(other)) for other in ROLES}
    text = tasks_of(role) + (role / "defaults" / "main.yml").read_text(encoding="utf-8")
    assert foreign_results(role.name, text, registered) == []


def test_checker_sees_the_result_of_another_role() -> None:
    registered: dict[str, Any] = {"one": {"one_result"}, "two": {"two_result"}}
    text = "# one_result\npending: '{{ one_result.changed }}'\nwhen: two_result.changed\n"
    assert foreign_results("two", text, registered) == ["one_result"]
