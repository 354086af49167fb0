"""Names that are written so as to pass for others: none is taken for what is allowed, and no block is missed."""

from __future__ import annotations

import pytest

from interlock.evaluators.lists import ListConfig, ListEvaluator
from tests.samples import call_of
from tests.unicode_tricks import KINDS, NAMES, ORDINARY, tricks


def passing(values: list[str], judge: ListEvaluator) -> list[str]:
    """Return those of *values* to which *judge* has no objection."""
    return [value for value in values if judge.evaluate(call_of({"to": value})) is None]


def test_there_are_enough_names_and_tricks() -> None:
    """Broken if the lists shrink to where they prove nothing."""
    assert len(set(NAMES)) == 50
    assert {kind: len(tricks(kind)) >= 150 for kind in KINDS} == dict.fromkeys(KINDS, True)
    assert sum(len(tricks(kind)) for kind in KINDS) >= 10_000


@pytest.mark.promise(1)
@pytest.mark.parametrize("kind", KINDS)
def test_no_trick_is_allowed(kind: str) -> None:
    """Broken if a spelling that is not the name is taken for what is allowed."""
    judge = ListEvaluator(ListConfig(argument="to", allow=frozenset(NAMES)))
    assert passing([trick for _, trick in tricks(kind)], judge) == []
    assert passing(list(NAMES), judge) == list(NAMES)


@pytest.mark.promise(1)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "case"])
def test_no_trick_is_allowed_where_case_is_ignored(kind: str) -> None:
    """Broken if a spelling other than in case passes because case is ignored, as the Kelvin sign for k."""
    judge = ListEvaluator(ListConfig(argument="to", allow=frozenset(NAMES), ignore_case=True))
    assert passing([trick for _, trick in tricks(kind)], judge) == []
    assert passing([name.upper() for name in NAMES], judge) == [name.upper() for name in NAMES]


@pytest.mark.promise(1)
@pytest.mark.parametrize("kind", KINDS)
def test_no_trick_gets_past_a_block(kind: str) -> None:
    """Broken if what is blocked passes in another spelling, though nothing but a block is given."""
    for name in NAMES:
        judge = ListEvaluator(ListConfig(argument="to", block=frozenset({name})))
        assert passing([trick for known, trick in tricks(kind) if known == name], judge) == []


@pytest.mark.promise(1)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "look"])
def test_no_trick_gets_past_a_block_where_all_alphabets_are_accepted(kind: str) -> None:
    """Broken if `beyond_ascii` gives up more than look-alikes."""
    for name in NAMES:
        judge = ListEvaluator(ListConfig(argument="to", block=frozenset({name}), beyond_ascii=True))
        assert passing([trick for known, trick in tricks(kind) if known == name], judge) == []


def test_ordinary_names_pass() -> None:
    """Broken if the price of the above is that names which nobody blocked are refused: more than 1 in 100."""
    judge = ListEvaluator(ListConfig(argument="to", block=frozenset(NAMES)))
    assert len(set(ORDINARY)) == 1_000
    assert len(passing(ORDINARY, judge)) > 990
