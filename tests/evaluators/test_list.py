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


# One word in spellings that are the same after NFKC, and one that is canonically equivalent.
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
def test_another_spelling_is_blocked_too(word: str, other: str) -> None:
    """Broken if a full-width or composed spelling gets past a block, on either side of the comparison."""
    assert word != other
    for written, given_ in ((word, other), (other, word)):
        for rest in ({}, {"beyond_ascii": True}, {"allow": [written, given_]}):
            assert not passes(given_, block=[written], **rest)


@pytest.mark.promise(1)
@pytest.mark.parametrize(("word", "other"), PAIRS, ids=ascii)
def test_only_a_canonical_spelling_is_allowed(word: str, other: str) -> None:
    """Broken if what is allowed is another text than the one listed, or only one of the ways to compose it."""
    for fold in (False, True):
        decomposed = unicodedata.normalize("NFD", word) == other
        assert passes(other, allow=[word], ignore_case=fold) == decomposed
        assert passes(other, allow=[other], ignore_case=fold)


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
    ],
    ids=ascii,
)
def test_case_is_ignored_where_that_is_asked_for(word: str, other: str) -> None:
    """Broken if the rule on case is not the one that is written down: Unicode's folding; of `allow`, if asked for."""
    assert not passes(other, block=[word])
    assert not passes(other, block=[word], beyond_ascii=True)
    assert passes(other, allow=[word], ignore_case=True)
    assert not passes(other, allow=[word])


@pytest.mark.promise(1)
def test_case_does_not_hide_another_spelling() -> None:
    """Broken if the Kelvin sign is k, or a long s is s, because case is ignored."""
    assert passes("K", allow=["k"], ignore_case=True)
    assert not passes("\u212a", allow=["k"], ignore_case=True)
    assert not passes("\u017f", allow=["s"], ignore_case=True)
    assert not passes("k\u200b", allow=["k"], ignore_case=True)


@pytest.mark.promise(1)
@given(
    st.text(min_size=1, max_size=4), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]), st.booleans()
)
def test_no_normal_form_is_a_way_around(word: str, form: Any, fold: bool) -> None:
    """Broken if there is a text of which one normal form is blocked and another is not."""
    other = unicodedata.normalize(form, word)
    assert not passes(other, block=[word], ignore_case=fold, beyond_ascii=True)
    assert not passes(word, block=[other], ignore_case=fold, beyond_ascii=True)
    if form == "NFD":
        assert passes(other, allow=[word], ignore_case=fold)


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "value", [None, 5, True, b"evil", ["evil"], ("ok",), {"ok": 1}, ...], ids=repr
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
        {"argument": [], "allow": ["x"]},
        {"argument": "to", "allow": ["x" * 20_000]},
        {"argument": "to", "block": ["x" + "\u0300" * 31]},
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


def test_a_word_is_looked_for_at_a_path() -> None:
    """Broken if a part of an argument cannot be judged, or one that is not there passes."""
    judge = ListEvaluator(ListConfig(argument="order.items.1", allow=["b"]))
    assert judge.evaluate(call_of({"order": {"items": ["a", "b"]}})) is None
    for order in ({"items": ["b"]}, {"items": "b"}, {}, None, {"items": {"1": "c"}}):
        assert judge.evaluate(call_of({"order": order})) is not None
    dotted = ListEvaluator(ListConfig(argument=("order", "a.b", 0), allow=["b"]))
    assert dotted.evaluate(call_of({"order": {"a.b": ["b"]}})) is None


@pytest.mark.promise(1)
def test_a_block_alone_refuses_other_alphabets() -> None:
    """Broken if a look-alike that no table knows passes, or accepting other alphabets cannot be asked for."""
    for value in ("\u0435vil", "caf\u00e9", "\u6771\u4eac", "\U0001f600"):
        assert not passes(value, block=["evil"])
        assert passes(value, block=["evil"], beyond_ascii=True)
        assert passes(value, allow=[value], block=["evil"])
    assert passes("\uff4f\uff4b", block=["evil"])  # ASCII once it is normalised


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    ("blocked", "value"),
    [("evil", "evi1"), ("EVIL", "EVlL"), ("evil", "EVlL"), ("o1", "Ol"), ("modem", "modern")],
)
def test_look_alikes_within_ascii_are_blocked(blocked: str, value: str) -> None:
    """Broken if a digit or letter of ASCII that is drawn like another gets past a block."""
    assert not passes(value, block=[blocked], beyond_ascii=True)


@pytest.mark.parametrize(
    ("blocked", "value"), [("mall", "mail"), ("MALL", "MAIL"), ("fall", "fail"), ("rn", "nm")]
)
def test_words_that_do_not_look_alike_pass(blocked: str, value: str) -> None:
    """Broken if i is taken for l in words that anybody can tell apart."""
    assert passes(value, block=[blocked])


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "value", ["x" * 16_385, "x" + "\u0300" * 31, "x" + "\u0f73\u0300" * 2_000], ids=len
)
@pytest.mark.parametrize(
    "config", [{"block": ["evil"], "beyond_ascii": True}, {"allow": ["x"], "ignore_case": True}]
)
def test_what_is_no_word_is_denied(config: dict[str, Any], value: str) -> None:
    """Broken if a text that takes long to normalise is normalised, or passes because it is not."""
    assert not passes(value, **config)
