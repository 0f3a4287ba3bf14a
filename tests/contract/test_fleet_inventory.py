"""The example of a fleet shows every variable that an inventory may set, with its default."""

from __future__ import annotations

import re
from typing import Any

import make_docs
import yaml

from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "inventories" / "example_fleet" / "group_vars" / "all.yml").read_text()
SHOWN: dict[str, Any] = yaml.safe_load("\n".join(re.findall(r"^# ([a-z_]+: \S.*)$", TEXT, re.MULTILINE)))
SET: dict[str, Any] = yaml.safe_load(TEXT)


def test_no_variable_is_missing_and_each_has_its_default() -> None:
    defaults = {name: row[0] for name, row in make_docs.inventory_variables(make_docs._roles()).items()}
    for name in SET:
        defaults.pop(name, None)
    of_a_fleet = {name for name in SHOWN if name.startswith("fleet_")}
    assert {
        name: value for name, value in SHOWN.items() if name not in (*of_a_fleet, "nvidia_driver_reboot")
    } == defaults
    known = yaml.safe_load((REPOSITORY / "playbooks" / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    assert of_a_fleet == set(known["fleet"]["options"])
