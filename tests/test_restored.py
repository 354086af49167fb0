"""Values from their canonical JSON: the same again, or said that they cannot be told."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock._canonical import canonical
from interlock._restored import Unrestorable, restored

plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(dt.UTC))
    | st.times()
    | st.timedeltas()
)
hashable = plain | st.tuples(plain, plain)
values = st.recursive(
    plain | st.frozensets(hashable, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(hashable, inner, max_size=3)
    ),
    max_leaves=9,
)


@given(values)
def test_what_is_restored_has_the_same_form(value: Any) -> None:
    """Broken if a call that is resumed, or an edit, runs with another value than the one on record."""
    written = canonical(value)
    again = restored(json.loads(written))
    assert canonical(again) == written
    if not isinstance(value, frozenset):
        assert type(again) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        {"$secret": True},
        {"$redacted": "p"},
        {"$object": "m.C"},
        {"$record": ["m.C", {}]},
        {"$enum": ["m.C", 1]},
        {"$nothing": 1},
        {"$int": "5", "a": 1},
        {"$int": 5},
        {"$int": "x"},
        {"$decimal": "x"},
        {"$float": "x"},
        {"$bytes": "?"},
        {"$uuid": "x"},
        {"$datetime": "x"},
        {"$date": 5},
        {"$time": "x"},
        {"$duration": "1 fortnight"},
        {"$text": "zz"},
        {"$tuple": {}},
        {"$set": [[1]]},
        {"$set": "ab"},
        {"$map": [[1]]},
        {"$path": 5},
        [{"a": {"$secret": True}}],
    ],
    ids=str,
)
def test_what_cannot_be_told_is_said(value: Any) -> None:
    """Broken if a value is made up of what does not say which it is, or the error is another, or holds the value."""
    with pytest.raises(Unrestorable) as error:
        restored(value)
    assert "fortnight" not in str(error.value)


def test_kinds() -> None:
    """Broken if a value comes back as another kind that has the same text."""
    for value in (
        1,
        True,
        1.0,
        "1",
        Decimal("1.0"),
        Decimal("1.00"),
        b"1",
        UUID(int=1),
        2**70,
        (1,),
        [1],
        {"$int": "1"},
        dt.timedelta(days=-3, seconds=4, microseconds=5),
    ):
        again = restored(json.loads(canonical(value)))
        assert (type(again), repr(again)) == (type(value), repr(value))
    path = restored(json.loads(canonical(PurePosixPath("a/b"))))
    assert str(path) == "a/b"
