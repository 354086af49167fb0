"""A call's arguments are read in one pass: the three forms it gives are those that three passes give."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import pickle
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from immutabledict import immutabledict

from interlock import Identity, Tool, _forms, _kinds
from interlock._call import describe
from interlock._canonical import canonical, encode, tree
from interlock._forms import forms, isolate, view
from interlock._kinds import MAX_BYTES, MAX_DEPTH, Unrepresentable
from tests.samples import IDENTITY, call_of
from tests.values import Colour, Level, Order, Point, fingerprint, parts, values


class Text(str):
    """Text of a subclass."""

    __slots__ = ()


class Agent(enum.StrEnum):
    """An agent's name that is more than text."""

    SUPPORT = "support"


odd = st.sampled_from(
    [Text("x"), "\ud800", "é", "$a", "$$a", "$secret", {"\ud800": 1}, {"$a": {"$$": [1]}}, {1: 2}]
) | st.sampled_from([{(1, "a"): [Text("y")]}, [{Text("k"): 1}], Point([1], 2), bytearray(b"x")])
texts = st.text(max_size=2) | st.sampled_from(["$", "$a", "\ud800", "é", "a$"])
mixed = st.recursive(
    values | odd,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(texts, inner, max_size=3)
    ),
    max_leaves=8,
)
arguments = st.dictionaries(texts, mixed, max_size=4)


def apart(data: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Make the three forms one after the other."""
    copied = isolate(data)
    return copied, view(copied), tree(copied)


def exactly(value: Any) -> Any:
    """What the value is, with the type of every part, and the order of what has one."""
    match value:
        case dict() | immutabledict():
            pairs = [(exactly(key), exactly(item)) for key, item in value.items()]
            return type(value).__name__, pairs
        case list() | tuple():
            return type(value).__name__, [exactly(item) for item in value]
        case _:
            return type(value).__name__, fingerprint(value)


@pytest.mark.promise(5)
@given(arguments)
@example({"a": Colour.RED, "b": Level.ONE, "c": Order("o", [Text("t")])})
@example({"a": [{"b": ({"$c": [1.5, None, b"x", 2**60]},)}]})
@example({"a": {1: "x"}, "b": {"\ud800": Decimal(1)}, "$c": "\udfff"})
@example({"a": "\ud800", "b": "é"})
@example({"a": "x", "é": 1})
def test_one_pass_gives_what_three_give(data: dict[str, Any]) -> None:
    """Broken if what is judged, digested or run depends on which way a value was read."""
    expected = apart(data)
    assert [exactly(form) for form in expected] == [exactly(form) for form in forms(data)]
    assert encode(expected[2]) == encode(forms(data)[2])


@pytest.mark.promise(5)
@given(arguments)
def test_one_pass_leaves_nothing_shared(data: dict[str, Any]) -> None:
    """Broken if the caller, or the tool, can change what was judged."""

    def changeable(value: Any) -> dict[int, Any]:
        kinds = (list, dict, set, bytearray, Order, msgspec.Struct)
        return {id(part): part for part in parts(value) if isinstance(part, kinds)}

    copied, seen, _ = forms(data)
    assert changeable(copied).keys().isdisjoint(changeable(data))
    assert [part for part in changeable(seen).values() if not isinstance(part, _forms.Opaque)] == []
    assert hash(seen) == hash(view(isolate(data)))


def nested(depth: int, wrap: Any) -> Any:
    """Wrap a zero so that it stands at *depth*."""
    value: Any = 0
    for _ in range(depth):
        value = wrap(value)
    return value


WRAPS = {
    "list": lambda v: [v],
    "tuple": lambda v: (v,),
    "dict": lambda v: {"k": v},
    "dict of any": lambda v: {0: v},
    "record": lambda v: Order("o", v),
    "mixed": lambda v: [Order("o", ({"k": v},))],
}


@pytest.mark.parametrize("kind", WRAPS)
def test_depth_is_bounded_at_the_same_place(kind: str) -> None:
    """Broken if one pass takes a level more, or refuses one that the bytes have room for."""
    step = 4 if kind == "mixed" else 1
    fits = nested((MAX_DEPTH - 1) // step, WRAPS[kind])
    assert encode(forms({"a": fits})[2]) == canonical({"a": fits})
    for more in range(1, 5):
        deep = nested((MAX_DEPTH - 1 + more * step) // step, WRAPS[kind])
        for read in (forms, canonical):
            with pytest.raises(Unrepresentable, match="deeper than 64 levels"):
                read({"a": deep})


def test_an_empty_container_may_stand_at_the_last_level() -> None:
    """Broken if the last level is taken for one too many."""
    for empty in ([], (), {}):
        data = {"a": nested(MAX_DEPTH - 1, WRAPS["list"])}
        inner = data["a"]
        while isinstance(inner[0], list):
            inner = inner[0]
        inner[0] = empty
        assert encode(forms(data)[2]) == canonical(data)


@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "record"])
def test_shared_parts_do_not_explode(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if a value whose parts are each twice in the next is written out 2^n times."""
    monkeypatch.setattr(_kinds, "MAX_BYTES", 10_000)
    twice = {
        "list": lambda v: [v, v],
        "tuple": lambda v: (v, v),
        "dict": lambda v: {"a": v, "b": v},
        "record": lambda v: [Order("o", v), v],
    }[kind]
    value: Any = 0
    for _ in range(20):
        value = twice(value)
    with pytest.raises(Unrepresentable, match="larger than 10000 bytes"):
        forms({"a": value})


def test_what_just_fits_is_not_refused() -> None:
    """Broken if a value whose bytes are within the bound is refused for the number of its parts."""
    few = MAX_BYTES // 2 - 100
    many = [0] * few
    for value in (many, {"k": many}, {"k": many, 1: 2}, frozenset([tuple(many)]), Order("o", many)):
        call, _ = describe(
            Tool(name="t"), {"a": value}, call_id="c", session_id="s", identity=IDENTITY
        )
        assert call.faults == ()


def test_any_mapping_will_do() -> None:
    """Broken if arguments that an adapter gives as another mapping are described otherwise."""
    for data in ({"a": [1], "b": {"c": Decimal(1)}}, {"a": [1], "\ud800": 1}, {}):
        one, other = call_of(data), call_of(immutabledict(data))
        assert (one.digest, one.recorded) == (other.digest, other.recorded)
        assert one.arguments == other.arguments


@pytest.mark.promise(5)
@pytest.mark.parametrize("item", ["x", ["x"]], ids=["plain", "list"])
def test_arguments_that_change_while_they_are_read_are_read_once(item: Any) -> None:
    """Broken if what is judged, what is digested and what runs can be three different values."""

    class Changing(Mapping[str, Any]):
        """Answers otherwise each time."""

        def __getitem__(self, key: str) -> Any:
            reads.append(key)
            return [*item, str(len(reads))] if isinstance(item, list) else f"x{len(reads)}"

        def __iter__(self) -> Iterator[str]:
            return iter(["a"])

        def __len__(self) -> int:
            return 1

    reads: list[str] = []
    copied, seen, data = forms(Changing())
    assert reads == ["a"]
    assert encode(data) == canonical(copied)
    assert view(copied) == seen


def test_the_view_is_an_immutabledict_like_any_other() -> None:
    """Broken if the view that is made without a copy can be told from one that its class has made."""
    seen, made = forms({"a": 1, "b": (2,)})[1], immutabledict(a=1, b=(2,))
    assert type(made) is type(seen)
    assert (made, hash(made), repr(made), vars(made)) == (seen, hash(seen), repr(seen), vars(seen))
    again = pickle.loads(pickle.dumps(seen))  # noqa: S301 - our own bytes
    assert (type(again), again) == (immutabledict, seen)
    with pytest.raises(TypeError):
        seen["a"] = 2  # type: ignore[index]


def bound(arguments: dict[str, Any], identity: Identity, tool: str) -> str:
    """The digest of a call, as it is documented: over the trees of all that it is bound to."""
    data = {
        "tool": tool,
        "session": "s-1",
        "schema": None,
        "org": identity.org,
        "arguments": hashlib.sha256(canonical(isolate(arguments))).hexdigest(),
        "agent": identity.agent,
    }
    return hashlib.sha256(encode(tree(data))).hexdigest()


@pytest.mark.promise(5)
@given(texts, st.none() | texts, texts, arguments)
@example("support", None, "pay", {})
@example(Agent.SUPPORT, None, "pay", {})
@example("support", Agent.SUPPORT, "pay", {})
@example("support", None, Agent.SUPPORT, {})
@example(Text("support"), Text("acme"), "é", {})
@example("\ud800", None, "pay", {})
def test_the_digest_is_over_the_trees(
    agent: str, org: str | None, tool: str, given_arguments: dict[str, Any]
) -> None:
    """Broken if the quick way to a digest gives another one: tickets that are open would no longer be found."""
    identity = Identity(agent=agent, org=org)
    call = call_of(given_arguments, tool=Tool(name=tool), identity=identity)
    assert bound(given_arguments, identity, tool) == call.digest


def test_digests_stay_what_they_were() -> None:
    """Broken if a digest that was once recorded is computed otherwise: tickets and histories hold them."""
    call = call_of({"order": "o-1", "amount": Decimal("20.00"), "lines": [{"sku": "é", "n": 2}]})
    assert call.recorded == (
        '{"amount":{"$decimal":"20.00"},"lines":[{"n":2,"sku":"é"}],"order":"o-1"}'
    )
    assert call.digest == "cf35d4966b97e6fcef2d30d1f3cdb3546898d6f759d13c4dc938205a9a6fe4a8"


@pytest.mark.promise(1, 9)
@given(arguments, st.lists(texts, max_size=3))
@example({"\ud800": 1, "card": "4111"}, ["card"])
@example({"$card": "4111", "card": 1}, ["$card"])
@example({"\ud800": "4111"}, ["\ud800"])
def test_secrets_are_masked_whatever_they_are_called(
    data: dict[str, Any], secrets: list[str]
) -> None:
    """Broken if an odd name beside a secret, or of one, shows the secret or makes the call unrecorded."""
    call = call_of(data, tool=Tool(name="pay", secrets=tuple(secrets)))
    marked = {"\0": 1}  # not what any argument is here
    expected = tree(
        {name: marked if name in secrets else isolate(value) for name, value in data.items()}
    )
    plain = encode(tree(marked)), b'{"$secret":true}'
    assert encode(expected).replace(*plain).decode() == call.recorded


@pytest.mark.promise(9)
def test_what_is_too_large_is_not_kept_for_its_secrets() -> None:
    """Broken if arguments that are refused for their size are kept all the same, because one of them is a secret."""
    tool = Tool(name="pay", secrets=("card",))
    call = call_of({"card": "4111", "note": "x" * MAX_BYTES}, tool=tool)
    assert (call.recorded, len(call.faults)) == ("{}", 1)


def test_a_record_is_copied_once() -> None:
    """Broken if a record is copied for each form: the three could then differ."""
    copies: list[int] = []

    @dataclasses.dataclass
    class Counted:
        number: int = 0

        def __deepcopy__(self, memo: object) -> Counted:
            copies.append(1)
            return Counted(len(copies))

    copied, seen, data = forms({"a": [Counted()]})
    assert copies == [1]
    assert copied["a"][0].number == seen["a"][0]["number"] == 1
    assert b'"number":1' in encode(data)
