"""The evaluator `list`: a text is in a list or it is not, however it is spelled."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interlock import Verdict
from interlock.evaluators.lists import ListConfig, ListEvaluator
from tests.samples import call_of


def passes(value: Any, **config: Any) -> bool:
    """Whether the evaluator has no objection to a call with the argument `to`."""
    judge = ListEvaluator(ListConfig(argument="to", **config))
    opinion = judge.evaluate(call_of({"to": value}))
    assert opinion is None or opinion.verdict is Verdict.DENY
    return opinion is None


# One word in spellings that are the same after NFKC.
SPELLINGS = {
    "evil": ["\uff45\uff56\uff49\uff4c", "ev\u2170l", "\U0001d41e\U0001d42f\U0001d422\U0001d425"],
    "caf\u00e9": ["cafe\u0301", "\uff43af\u00e9"],
    "office": ["o\ufb03ce", "of\ufb01ce"],
    "\u00c5": ["\u212b", "A\u030a"],
    "1": ["\u00b9", "\u2460", "\uff11"],
    "\u03a9": ["\u2126"],
}
PAIRS = [(word, other) for word, others in SPELLINGS.items() for other in others]


@pytest.mark.promise(1)
@pytest.mark.parametrize(("word", "other"), PAIRS, ids=ascii)
def test_another_spelling_is_the_same_word(word: str, other: str) -> None:
    """Broken if a full-width or composed spelling gets past a block, on either side of the comparison."""
    assert word != other
    for written, given_ in ((word, other), (other, word)):
        assert not passes(given_, block=[written])
        assert not passes(given_, block=[written], allow=[written])
        assert passes(given_, allow=[written])


# Look-alikes that are other words after NFKC, too.
OTHERS = ["Evil", "EVIL", "evil ", " evil", "evi", "evill", "\u0435vil", "evi1", "ev\u0131l", ""]


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "other", [*OTHERS, "evil\u200b", "e\u00advil", "evil\x00", "\u202eevil"], ids=ascii
)
def test_another_word_is_not_allowed(other: str) -> None:
    """Broken if a look-alike of what is allowed passes for it."""
    assert not passes(other, allow=["evil"])
    assert passes("evil", allow=["evil"])


@pytest.mark.parametrize(
    ("word", "other"),
    [
        ("evil", "EVIL"),
        ("stra\u00dfe", "STRASSE"),
        ("\u03c3", "\u03a3"),
        ("\u03c3", "\u03c2"),
        ("k", "\u212a"),
    ],
    ids=ascii,
)
def test_case_is_ignored_where_that_is_asked_for(word: str, other: str) -> None:
    """Broken if the rule on case is not the one that is written down: Unicode's folding, only when asked for."""
    assert not passes(other, block=[word], ignore_case=True)
    assert passes(other, allow=[word], ignore_case=True)
    if unicodedata.normalize("NFKC", other) != unicodedata.normalize("NFKC", word):
        assert passes(other, block=[word])
        assert not passes(other, allow=[word])


@pytest.mark.promise(1)
@given(
    st.text(min_size=1, max_size=4), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]), st.booleans()
)
def test_no_normal_form_is_a_way_around(word: str, form: Any, fold: bool) -> None:
    """Broken if there is a text of which one normal form is blocked and another is not."""
    for other in {unicodedata.normalize(form, word), word}:
        assert not passes(other, block=[word], ignore_case=fold)
        assert passes(other, allow=[word], ignore_case=fold)


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "value", [None, 5, True, b"evil", ["evil"], ("ok",), {"ok": 1}, object()], ids=repr
)
def test_what_is_no_text_does_not_pass(value: Any) -> None:
    """Broken if an argument that is in no list because it is no text is let through."""
    judge = ListEvaluator(ListConfig(argument="to", block=["evil"]))
    assert judge.evaluate(call_of({"to": value})) is not None
    assert judge.evaluate(call_of({"from": "ok"})) is not None


@pytest.mark.promise(9)
@pytest.mark.parametrize("config", [{"allow": ["x"]}, {"block": ["4111-planted"]}], ids=str)
def test_the_reason_does_not_quote_the_value(config: dict[str, Any]) -> None:
    """Broken if a refusal, which is logged and shown to models, repeats the argument."""
    judge = ListEvaluator(ListConfig(argument="to", **config))
    opinion = judge.evaluate(call_of({"to": "4111-planted"}))
    assert opinion is not None
    assert "planted" not in opinion.reason


def test_a_block_outweighs_an_allow() -> None:
    """Broken if a word that is in both lists passes."""
    assert not passes("evil", allow=["evil"], block=["evil"])
    assert not passes("anything", allow=[])
    assert passes("anything", block=["evil"])


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"argument": "to"},
        {"argument": "to", "block": []},
        {"argument": "", "allow": ["x"]},
        {"argument": "to", "alow": ["x"]},
        {"argument": "to", "allow": "x"},
        {"argument": "to", "allow": [1]},
        {"argument": "to", "allow": ["x"], "ignore_case": "perhaps"},
    ],
    ids=str,
)
def test_a_wrong_configuration_is_refused(config: dict[str, Any]) -> None:
    """Broken if a list that lists nothing, or a misspelt key, is taken for a list."""
    with pytest.raises(ValidationError):
        ListConfig(**config)
