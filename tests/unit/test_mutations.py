"""Which mutations run: those with a word in their name, or the next few each day."""

from __future__ import annotations

import datetime

import pytest
import yaml

from tests.mutations import run
from tests.mutations.run import IN_TURN, Mutation, choose

DAY = datetime.date(2026, 11, 26)


def mutations(count: int) -> list[Mutation]:
    return [Mutation(f"role/main: task {number}", "", "", ()) for number in range(count)]


@pytest.mark.parametrize("count", [1, IN_TURN - 1, IN_TURN, IN_TURN + 1, 76, 77])
def test_the_turn_gets_round_to_each_of_them(count: int) -> None:
    every = mutations(count)
    days = [
        choose(every, ["turn"], DAY + datetime.timedelta(days=day)) for day in range(-(-count // min(IN_TURN, count)))
    ]
    assert {len(chosen) for chosen in days} == {min(IN_TURN, count)}
    assert {mutation.name for chosen in days for mutation in chosen} == {mutation.name for mutation in every}


def test_one_day_has_one_turn() -> None:
    assert choose(mutations(76), ["turn"], DAY) == choose(mutations(76), ["turn"], DAY)


def test_words_choose_by_name() -> None:
    every = mutations(12)
    assert choose(every, [], DAY) == every
    assert [mutation.name[-2:] for mutation in choose(every, ["task 1", "task 9"], DAY)] == [" 1", " 9", "10", "11"]
    assert choose(every, ["turn", "task 3"], DAY) == [every[3]]


def test_each_mutation_of_the_list_is_found_and_names_scenarios_that_exist() -> None:
    plan = yaml.safe_load((run.HERE / "mutations.yml").read_text())
    found = run.find_mutations(plan)
    assert len({mutation.name for mutation in found}) == len(found)
    named = {scenario for mutation in found for scenario in mutation.scenarios}
    assert [name for name in sorted(named) if not _exists(name)] == []


def _exists(scenario: str) -> bool:
    if ".py" in scenario:
        return (run.REPOSITORY / scenario.partition("::")[0]).is_file()
    role, _, name = scenario.rpartition("/")
    folder = run.REPOSITORY / "roles" / role / "molecule" if role else run.REPOSITORY / "tests" / "molecule"
    return (folder / name / "molecule.yml").is_file()
