"""The canonical bytes: the same exactly when the value is, bounded, and as RFC 8785 has them."""

from __future__ import annotations

import datetime as dt
import itertools
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import msgspec
import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from interlock import _kinds
from interlock._canonical import canonical, digest, encode, tree
from interlock._forms import isolate, view
from interlock._kinds import MAX_BYTES, MAX_DEPTH, Unrepresentable
from tests.values import Colour, Level, Line, Open, Order, Point, Size, fingerprint, leaves, values

EXACT = 2**53 - 1

trees = st.recursive(
    st.none() | st.booleans() | st.integers(-EXACT, EXACT) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)

# Few leaves, so that two values drawn apart are often nearly the same.
confusable = st.sampled_from(
    [1, 1.0, True, "1", Decimal(1), Decimal("1.0"), b"1", None, "", "$int", "None", -0.0, 0.0, 0]
)
twins = st.recursive(
    confusable,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(
            st.sampled_from(["a", "$a", "$$a", "$tuple", 1, True, "1"]), inner, max_size=2
        )
    ),
    max_leaves=4,
)


@given(trees)
@example({"\U0001f600": 1, "\ufb33": 2, "\uffff": 3, "\U00010000": 4})
@example({"é": 1, "e\u0301": 2, "": 3, "\x7f": 4, "\x00": 5, "</script>": 6, "\u2028": 7})
@example({"a\\b": '"', "\x1f": "\b\f\n\r\t", "/": "\x80"})
def test_encode_is_rfc_8785(data: Any) -> None:
    """Broken if the quick encoder and the library disagree on any tree: digests would not be portable."""
    assert rfc8785.dumps(data) == encode(data)


def test_encode_sorts_as_the_rfc_prints() -> None:
    """Broken if keys are sorted by code point: the RFC sorts by UTF-16 (its example, section 3.2.3)."""
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    expected = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(msgspec.json.decode(encode(dict.fromkeys(keys, 0)))) == expected


@pytest.mark.promise(5)
@given(st.one_of(st.tuples(twins, twins), st.tuples(values, values)))
def test_bytes_are_the_same_exactly_when_the_value_is(pair: tuple[Any, Any]) -> None:
    """Broken if an approval for one value covers another, or one value has two digests."""
    left, right = pair
    assert (fingerprint(left) == fingerprint(right)) == (canonical(left) == canonical(right))


ALIKE: list[Any] = [
    *[1, 1.0, True, "1", b"1", Decimal(1), Decimal("1.0"), Decimal("1.00"), [1], (1,), {1}],
    *[{"1": 1}, {1: 1}, {"1": True}, {"1": 1.0}, {"1": None}, {}, [], (), set(), "", b"", None],
    *["None", "true", True + 1, 2.0, "[1]", Level.ONE, Colour.RED, "red", "RED", 0, 0.0, -0.0],
    *[False, "0", EXACT, EXACT + 1, float(EXACT + 1), str(EXACT + 1), -EXACT - 1],
    *[float("nan"), float("inf"), float("-inf"), "nan", Decimal("NaN"), Decimal("sNaN")],
    *[dt.date(2026, 1, 1), dt.datetime(2026, 1, 1), "2026-01-01", "2026-01-01T00:00:00"],  # noqa: DTZ001
    *[dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.time(0), dt.timedelta(0), "0:00:00", "00:00:00"],
    *[UUID(int=1), str(UUID(int=1)), PurePosixPath("a"), "a", ["a"], ("a",), {"a"}, [["a"]]],
    *[{"$int": "1"}, {"$float": "1.0"}, {"$bytes": "MQ=="}, {"$decimal": "1"}, {"$tuple": [1]}],
    *[{"$set": [1]}, {"$map": [[1, 1]]}, {"$text": "edb080"}, "\udc00", "\x00", "\\u0000"],
    *[{"\udc00": 1}, {"$$int": "1"}, {"$object": "builtins.object"}, object(), object, len],
    *[Order("a"), {"id": "a", "lines": None}, Line("a"), {"price": "a"}, Open(price=1)],
    *[Open(price=1, tax=1), Open(price=1, tax=2), Point(1, 2), Size(1, 2), (1, 2), [1, 2]],
    *[OrderedDict(a=1), defaultdict(int, a=1), {"a": 1}, {"$record": ["x", {"a": 1}]}],
    *["é", "e\u0301", "\u200b", "\ufeff", " ", "\uff11", "l", "I", "\u0430", "a\x00"],
]


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    "within",
    [
        lambda value: value,
        lambda value: [value],
        lambda value: (0, value),
        lambda value: {"k": value},
        lambda value: {"k": [{"$k": (value,)}]},
        lambda value: Order("o", value),
        lambda value: Line([value]),
    ],
    ids=["bare", "list", "tuple", "dict", "deep", "dataclass", "struct"],
)
def test_what_differs_differs_in_bytes(within: Callable[[Any], Any]) -> None:
    """Broken if two values that a tool can tell apart share a digest, wherever they stand."""
    found: dict[bytes, Any] = {}
    for value in ALIKE:
        data = canonical(within(value))
        assert data not in found, (found.get(data), value)
        found[data] = value


@given(st.dictionaries(st.text(max_size=3) | st.integers(), leaves, max_size=5), st.randoms())
def test_order_of_keys_is_nothing(data: dict[Any, Any], random: Any) -> None:
    """Broken if the order in which arguments are written changes the digest."""
    items = list(data.items())
    random.shuffle(items)
    assert canonical(data) == canonical(dict(items))


@pytest.mark.promise(5)
@given(values)
def test_a_value_cannot_pass_for_its_own_canonical_form(value: Any) -> None:
    """Broken if a dict that spells out a tag, as a caller can, gets the digest of what the tag stands for."""
    spelled = tree(value)
    assert (canonical(spelled) == canonical(value)) == (fingerprint(spelled) == fingerprint(value))


def test_text_that_is_no_unicode_is_kept_apart() -> None:
    """Broken if lone surrogates or NUL are lost, folded together or refused: models do produce them."""
    odd = ["\ud800", "\udfff", "\ud800\udc00", "\U00010000", "a\ud800", "\x00", "", "\ufffd", "?"]
    assert len({canonical(text) for text in odd}) == len(odd)
    assert canonical("\ud800") == b'{"$text":"eda080"}'
    assert len({canonical({text: 1}) for text in odd}) == len(odd)


@pytest.mark.parametrize("sign", [1, -1])
def test_integers_are_exact_beyond_what_json_can_hold(sign: int) -> None:
    """Broken if a large integer is rounded to a double, as RFC 8785 alone would have it."""
    near = [sign * (2**power + step) for power in (53, 63, 64, 200) for step in (-1, 0, 1)]
    assert len({canonical(number) for number in near}) == len(near)
    assert canonical(sign * EXACT) == str(sign * EXACT).encode()
    assert canonical(sign * (EXACT + 1)) == f'{{"$int":"{sign * (EXACT + 1)}"}}'.encode()


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    """Wrap a zero so that it stands at *depth*."""
    value: Any = 0
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize("form", [isolate, view, tree])
@pytest.mark.parametrize(
    "wrap",
    [lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: frozenset([v]), Line],
    ids=["list", "tuple", "dict", "set", "struct"],
)
def test_depth_is_bounded(form: Callable[[Any], Any], wrap: Callable[[Any], Any]) -> None:
    """Broken if 64 levels are refused, or 65 are not: the stack is not an attacker's to exhaust."""
    form(nested(MAX_DEPTH, wrap))
    too_deep = nested(MAX_DEPTH + 1, wrap)
    if form is isolate and wrap is Line:  # copied whole, and refused when the copy is read
        too_deep, form = isolate(too_deep), tree
    with pytest.raises(Unrepresentable, match="deeper than 64 levels"):
        form(too_deep)


def cycles() -> list[Any]:
    """Values that contain themselves."""
    a: list[Any] = []
    a.append(a)
    b: dict[str, Any] = {}
    b["b"] = [b]
    c = Order("c")
    c.lines = [c]
    d = Line(None)
    d.price = (d,)
    return [a, b, c, d, [a], {"k": b}]


@pytest.mark.parametrize("number", range(6))
def test_cycles_end(number: int) -> None:
    """Broken if a value that contains itself hangs the call or overflows the stack."""
    with pytest.raises(Unrepresentable):
        canonical(isolate(cycles()[number]))


@pytest.mark.parametrize("form", [isolate, view, tree])
def test_shared_parts_do_not_explode(
    form: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if lists, each twice in the next, are written out 2^n times: with a few more the process would hang."""
    monkeypatch.setattr(_kinds, "MAX_BYTES", 10_000)
    value: Any = [0]
    for _ in range(20):
        value = [value, value]
    with pytest.raises(Unrepresentable, match="larger than 10000 bytes"):
        form(value)


def test_size_is_bounded() -> None:
    """Broken if what is kept for good has no bound, or the bound is off by one."""
    assert len(canonical("x" * (MAX_BYTES - 2))) == MAX_BYTES
    for large in ("x" * (MAX_BYTES - 1), ["x" * MAX_BYTES], b"x" * MAX_BYTES, "é" * MAX_BYTES):
        with pytest.raises(Unrepresentable, match=f"larger than {MAX_BYTES} bytes"):
            canonical(large)


def test_keys_beyond_ascii_are_in_the_order_of_the_standard() -> None:
    """Broken if arguments with such names are not in the order, of UTF-16, by which others digest."""
    data = {"\U00010000": 1, "\ufffd": 2, "é": "ü"}
    assert rfc8785.dumps(data) == canonical(data)
    assert rfc8785.dumps(data).index("\U00010000".encode()) < canonical(data).index(
        "\ufffd".encode()
    )


def test_digest_is_sha_256() -> None:
    """Broken if digests stop being SHA-256, which other tools recompute."""
    known = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert known == digest(b"")


def test_hostile_pairs_are_all_compared() -> None:
    """Broken if the list of look-alikes shrinks to where it proves nothing."""
    assert len(list(itertools.combinations(ALIKE, 2))) > 4_000
