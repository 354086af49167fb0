"""Spellings: the ways to write the same are taken away completely, in little time, and nothing else is."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.evaluators._spelling import (
    MAX_MARKS,
    Illegible,
    check_legible,
    folded,
    hides,
    looks,
    plain,
)
from tests.unicode_tricks import INVISIBLE

EVERY = [chr(code) for code in range(sys.maxunicode + 1)]


def test_nothing_that_is_hidden_is_left() -> None:
    """Broken if a character that shows nothing survives, or comes out of another one."""
    assert [char for char in INVISIBLE if not hides(char) or plain(f"a{char}b") != "ab"] == []
    made = plain("".join(char for char in EVERY if not unicodedata.combining(char)))
    assert not hides(made)


def test_format_characters_are_hidden_but_for_those_that_are_seen() -> None:
    """Broken if Unicode has a format character that is neither known here nor drawn."""
    formats = {char for char in EVERY if unicodedata.category(char) == "Cf"}
    # Prepended_Concatenation_Mark of PropList.txt: signs drawn around the digits that follow.
    drawn = set("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u0890\u0891\u08e2\U000110bd\U000110cd")
    assert {char for char in formats if not hides(char)} == drawn


def test_only_what_shows_nothing_is_hidden() -> None:
    """Broken if a letter, digit or sign is taken away."""
    hidden = {char for char in EVERY if hides(char)}
    # Marks and letters that Unicode itself says are ignorable, beside formats and what is not assigned.
    allowed = {"Cf", "Cn", "Mn", "Lo"}
    assert {unicodedata.category(char) for char in hidden} == allowed
    seen = {char for char in hidden if unicodedata.category(char) == "Lo"}
    assert seen == set("\u115f\u1160\u3164\uffa0")


@given(st.text(max_size=20))
def test_what_is_plain_stays(text: str) -> None:
    """Broken if making a text plain twice gives another one: then two spellings of it would differ."""
    try:
        once = plain(text)
        assert plain(once) == once
        assert folded(folded(text)) == folded(text)
        assert looks(text) & looks(once) == looks(text)
    except Illegible:
        assert len(text) > MAX_MARKS // 3


@given(st.text(max_size=12), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_normal_forms_are_one(text: str, form: str) -> None:
    """Broken if a normal form of a text is another text."""
    other = unicodedata.normalize(form, text)  # type: ignore[arg-type]
    assert (plain(other), folded(other)) == (plain(text), folded(text))


@pytest.mark.parametrize("char", ["\u0300", "\u0f73", "\uff9e", "\u302a", "\U0001e8d0"])
def test_marks_in_a_row_are_counted(char: str) -> None:
    """Broken if a run of what Unicode has to sort can be long: sorting is quadratic."""
    check_legible("a" + char * MAX_MARKS + "b" + char * MAX_MARKS)
    with pytest.raises(Illegible):
        check_legible("a" + char * (MAX_MARKS + 1))
    with pytest.raises(Illegible):
        plain("a" + "\u200b".join(char * (MAX_MARKS + 1)))


def test_every_mark_is_known() -> None:
    """Broken if there is a character that Unicode sorts and that is not counted."""
    for char in EVERY:
        taken_apart = unicodedata.normalize("NFKD", char)
        if all(map(unicodedata.combining, taken_apart)):
            with pytest.raises(Illegible):
                check_legible(char * (MAX_MARKS + 1))
