"""Data of any shape: every secret is found, and nothing else is changed."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.evaluators import Streamed
from interlock_secrets.texts import Texts

TOKEN = "ghp_" + "x7Kq29fLmZ01" * 3
PLACE = "\0place\0"

WORDS = st.sampled_from(
    [
        "",
        "a",
        "é",
        "order 7",
        "\u200b",
        "\uff57\uff49\uff44\uff45",
        "note: none",
        PLACE,
        f"x {PLACE}.",
    ]
)
LEAVES = st.one_of(
    WORDS, st.integers(), st.none(), st.floats(allow_nan=False), WORDS.map(str.encode)
)
KEYS = st.one_of(WORDS, st.integers(), st.tuples(WORDS, st.integers()))
DATA = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
        st.frozensets(WORDS, max_size=2),
        st.lists(inner, max_size=3).map(lambda items: Streamed(items=tuple(items))),
    ),
    max_leaves=12,
)


def filled(data: Any, secret: str) -> Any:
    """Return *data* with *secret* in each place for one."""
    match data:
        case str():
            return data.replace(PLACE, secret)
        case bytes():
            return data.replace(PLACE.encode(), secret.encode())
        case dict():
            return {filled(key, secret): filled(item, secret) for key, item in data.items()}
        case Streamed():
            return Streamed(items=filled(data.items, secret))
        case list() | tuple() | frozenset():
            return type(data)(filled(item, secret) for item in data)
        case _:
            return data


@settings(deadline=None)
@given(DATA)
def test_secrets_are_taken_out_of_data_of_any_shape(data: Any) -> None:
    """Broken if a secret is left, another text, key or type is changed, or one takes the place of another."""
    given_data = filled(data, TOKEN)
    texts = Texts(1_000_000)
    texts.read(given_data)
    hits = texts.search()
    left = texts.without_secrets(given_data)
    assert left == filled(data, "[secret: github-pat]")
    assert bool(hits) == (given_data != filled(data, ""))
    assert (left is given_data) == (not hits)
    assert {hit.kind for hit in hits} <= {"github-pat"}
    assert TOKEN not in repr(hits)
