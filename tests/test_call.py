"""Describing a call: it never raises, prices exactly, hides what is secret, and is bound to all it was made of."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from interlock import Call, Identity, Risk, Tool, Verdict
from interlock._call import MAX_MONEY, describe, money
from interlock._canonical import canonical
from interlock._decide import decide
from interlock._state import SessionStatus
from interlock._ticket import TicketState
from tests.samples import IDENTITY, NOW, call_of, opinion, ticket_for
from tests.values import Order, values

PAY = Tool(name="pay", resource="value", cost="value")


def fails(*_: Any, **__: Any) -> Any:
    """Break whoever asks; the text is planted so that it can be looked for."""
    raise RuntimeError("4111-planted")


def object_with(*names: str, base: type = object, **attributes: Any) -> Any:
    """Make an object whose methods *names* all raise."""
    kind = type("Hostile", (base,), {**dict.fromkeys(names, fails), **attributes})
    return base.__new__(kind)


def endless() -> Any:
    """Make a value that is nested without end."""
    inner: list[Any] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


def looped() -> Any:
    """Make a value that contains itself."""
    value: dict[str, Any] = {}
    value["self"] = [value]
    return value


class Lying:
    """An object that breaks when it is asked for its class."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("4111-planted")

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        raise RuntimeError("4111-planted")


class Stubborn(Order):
    """A record that cannot be copied."""

    __deepcopy__ = fails


class Unreadable(Order):
    """A record whose fields cannot be read."""

    def __getattribute__(self, name: str) -> Any:
        return fails() if name == "lines" else super().__getattribute__(name)


HOSTILE: dict[str, Callable[[], Any]] = {
    "eq": lambda: object_with("__eq__", "__ne__", "__hash__"),
    "bool": lambda: object_with("__bool__", "__len__"),
    "repr": lambda: object_with("__repr__", "__str__", "__format__"),
    "getattr": lambda: object_with("__getattr__", "__getattribute__"),
    "iter": lambda: object_with("__iter__", "__next__", "__getitem__", "__contains__"),
    "copy": lambda: object_with("__copy__", "__deepcopy__", "__reduce__", "__reduce_ex__"),
    "class": Lying,
    "list": lambda: object_with("__iter__", "__len__", base=list),
    "list copy": lambda: object_with("__deepcopy__", base=list),
    "dict": lambda: object_with("__iter__", "items", "keys", "values", base=dict),
    "dict copy": lambda: object_with("__reduce_ex__", base=dict),
    "set": lambda: object_with("__iter__", "__deepcopy__", base=set),
    "tuple": lambda: object_with("__iter__", "__getitem__", base=tuple),
    "str": lambda: object_with("__str__", "__eq__", "encode", "isascii", base=str),
    "int": lambda: object_with("__int__", "__index__", "__str__", "__repr__", base=int),
    "float": lambda: object_with("__float__", "__repr__", "is_integer", base=float),
    "bytes": lambda: object_with("__bytes__", "__getitem__", "__iter__", base=bytes),
    "decimal": lambda: object_with("is_finite", "__lt__", "__str__", "copy_abs", base=Decimal),
    "datetime": lambda: type("Hostile", (dt.datetime,), {"__str__": fails})(2026, 1, 1),
    "tzinfo": lambda: dt.datetime(2026, 1, 1, tzinfo=object_with("utcoffset", base=dt.tzinfo)),
    "dataclass copy": lambda: Stubborn("o"),
    "dataclass fields": lambda: Unreadable("o"),
    "endless": endless,
    "looped": looped,
    "huge int": lambda: 10**5_000,
    "huge text": lambda: "x" * 2_000_000,
    "huge list": lambda: [0] * 2_000_000,
    "deep dict": lambda: {"a": endless()},
    "surrogate": lambda: "\ud800",
    "surrogate key": lambda: {"\udfff": 1},
    "nul": lambda: "\x00",
    "nan": lambda: float("nan"),
    "snan": lambda: Decimal("sNaN"),
    "infinite": lambda: [float("inf"), Decimal("-Infinity")],
    "generator": lambda: (number for number in range(3)),
    "lock": lambda: __import__("threading").Lock(),
    "module": lambda: re,
    "type": lambda: Order,
    "lambda": lambda: fails,
    "exception": lambda: RuntimeError("4111-planted"),
    "keys": lambda: {(1, "a"): 1, None: 2, 1.5: 3},
    "memoryview": lambda: memoryview(b"x"),
}


def described(value: Any, tool: Tool = PAY, name: str = "value") -> tuple[Call, dict[str, Any]]:
    """Describe a call of *tool* with one argument."""
    return describe(tool, {name: value}, call_id="c", session_id="s", identity=IDENTITY)


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "within", [lambda x: x, lambda x: [x], lambda x: {"a": (x,)}], ids=["bare", "list", "deep"]
)
@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_describing_never_raises(make: Callable[[], Any], within: Callable[[Any], Any]) -> None:
    """Broken if an argument can make the attempt unrecorded by raising when it is looked at."""
    call, copied = described(within(make()))
    assert re.fullmatch("[0-9a-f]{64}", call.digest)
    msgspec.json.decode(call.recorded)
    (call.resource or "").encode()
    assert copied == {} or set(copied) == {"value"}
    assert bool(copied) == (not any("cannot be judged" in fault for fault in call.faults))
    assert "planted" not in call.recorded + "".join(call.faults) + str(call.resource)


@given(values, st.sampled_from(list(HOSTILE.values())))
def test_describing_never_raises_for_any_mixture(value: Any, make: Callable[[], Any]) -> None:
    """Broken if something ordinary beside something hostile opens a way to raise."""
    call, _ = described([value, {"k": [make(), value]}])
    msgspec.json.decode(call.recorded)


@pytest.mark.promise(1)
@pytest.mark.parametrize("name", ["looped", "huge text", "dict copy"])
def test_what_cannot_be_judged_is_denied(name: str) -> None:
    """Broken if a fault in the description lets a call through, even where all allow and a human said yes."""
    call, _ = described(HOSTILE[name](), Tool(name="t"))
    assert [fault[:30] for fault in call.faults] == ["the arguments cannot be judged"]
    decision = decide(
        call,
        [opinion(Verdict.ALLOW), opinion(Verdict.ASK)],
        status=SessionStatus.OPEN,
        ticket=ticket_for(call, TicketState.APPROVED),
        now=NOW,
    )
    assert (decision.verdict, decision.admits) == (Verdict.DENY, False)


amounts = (
    st.decimals(0, 10**17, allow_nan=False, allow_infinity=False)
    | st.integers(0, 10**17)
    | st.floats(0, 1e17)
)


@given(amounts)
@example(0.1)
@example(5e-324)
@example(Decimal("0.30"))
@example(-0.0)
@example(Decimal("-0"))
def test_money_is_exactly_what_its_text_says(amount: Decimal | float) -> None:
    """Broken if an amount is rounded on its way in: a float is its text, so 0.1 is one tenth."""
    with localcontext(prec=3):
        taken = money(amount)
        assert Decimal(str(amount)).copy_abs().as_tuple() == taken.as_tuple()
        assert taken.as_tuple() == money(taken).as_tuple() == money(str(taken)).as_tuple()


@given(st.decimals(0, 10**9, places=3), st.decimals(0, 10**9, places=3))
def test_money_keeps_order(left: Decimal, right: Decimal) -> None:
    """Broken if the larger of two amounts can be taken for the smaller one, in whatever type they came."""
    assert (left <= right) == (money(str(left)) <= money(right))


NO_MONEY: list[Any] = [
    *[None, True, False, b"1", bytearray(b"1"), [1], (1,), {1}, {"usd": 1}, 1j, Fraction(1, 2)],
    *[object(), object, range(1), Order("o"), dt.timedelta(1), Risk.LOW, iter([1])],
    *[float("nan"), float("inf"), float("-inf"), -0.01, -1, -1.0, -(2**70), -5e-324],
    *[Decimal("NaN"), Decimal("-NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("-Infinity")],
    *[Decimal("-0.01"), Decimal("-1E-1000"), Decimal("1E+18"), Decimal("1E+999999"), MAX_MONEY],
    *[10**18, 10**5_000, 2**63 * 1000, 1e18, 1.7976931348623157e308, Decimal("9E+999999999999")],
    *["", " ", "nan", "NaN", "snan", "inf", "-inf", "Infinity", "-1", "-0.01", "-1e-9", "1e18"],
    *["one", "1,5", "1,000", "$1", "1 USD", "1.2.3", "0x10", "1e", "e1", "--1", "+-1", "1/2"],
    *[
        "1\x002",
        "\ud800",
        "∞",
        "½",
        "1 000",
        "\u0661\u066b\u0665",
        "1e999999999999999999999",
        "True",
        "None",
    ],
]


def test_there_are_enough_bad_amounts() -> None:
    """Broken if the list shrinks to where it proves nothing."""
    assert len(NO_MONEY) >= 60


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "amount", NO_MONEY, ids=[f"{n}-{type(a).__name__}" for n, a in enumerate(NO_MONEY)]
)
def test_what_is_no_money_is_refused(amount: Any) -> None:
    """Broken if something that cannot be booked counts as an amount: the call must be denied, and say why."""
    with pytest.raises(ValueError, match="not an amount of money"):
        money(amount)
    call, _ = described(amount, Tool(name="pay", cost="value"))
    assert call.cost is None
    assert call.faults
    decision = decide(
        call, [opinion(Verdict.ALLOW)], status=SessionStatus.OPEN, ticket=None, now=NOW
    )
    assert decision.verdict is Verdict.DENY


def test_a_missing_cost_is_a_fault() -> None:
    """Broken if a tool whose cost is declared and not given runs as if it were free."""
    call, _ = described(5, Tool(name="pay", cost="amount"))
    assert (call.cost, len(call.faults)) == (None, 1)


def test_a_fixed_cost_is_the_calls_cost() -> None:
    """Broken if a cost that is declared as an amount is not the cost of every call."""
    assert Decimal("0.02") == described(5, Tool(name="pay", cost=Decimal("0.02")))[0].cost
    assert described(5, Tool(name="pay"))[0].cost is None


@pytest.mark.promise(9)
@given(values)
@example("4111-planted")
def test_secrets_are_not_recorded(value: Any) -> None:
    """Broken if what is declared a secret, whatever it is, can be read from what is stored of the call."""
    tool = Tool(name="pay", secrets=("card",), resource="card")
    call = call_of({"card": [value, "4111-planted"], "order": "o-1"}, tool=tool)
    assert msgspec.json.decode(call.recorded) == {"card": {"$secret": True}, "order": "o-1"}
    assert call.resource is None


@pytest.mark.promise(5)
def test_secrets_are_part_of_what_is_approved() -> None:
    """Broken if a call can be approved with one secret and run with another."""
    tool = Tool(name="pay", secrets=("card",))
    one, other = (call_of({"card": card}, tool=tool) for card in ("4111", "4112"))
    assert one.recorded == other.recorded
    assert one.digest != other.digest
    assert one.digest == call_of({"card": "4111"}, tool=Tool(name="pay")).digest


def place(**changed: Any) -> dict[str, Any]:
    """Where a call is made: whose session, and which."""
    known = {"agent": "bot", "user": "u-17", "team": "desk", "org": "acme"}
    fields = {key: changed.pop(key, value) for key, value in known.items()}
    return {"identity": Identity(**fields), **changed}


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    "changed",
    [
        {"agent": "bot2"},
        {"org": "acme2"},
        {"org": None},
        {"session_id": "s-2"},
        {"tool": Tool(name="refund2")},
        {"arguments": {"order": "o-1", "amount": 21}},
        {"arguments": {"order": "o-1", "amount": 20.0}},
        {"arguments": {"order": "o-1", "amount": "20"}},
        {"arguments": {"order": "o-2", "amount": 20}},
        {"arguments": {"order": "o-1"}},
        {"arguments": {"order": "o-1", "amount": 20, "note": None}},
        {"arguments": {"Order": "o-1", "amount": 20}},
        {"agent": "acme", "org": "bot"},
    ],
    ids=str,
)
def test_the_digest_changes_with_what_it_is_bound_to(changed: dict[str, Any]) -> None:
    """Broken if a ticket for one call would answer for another agent's, session's, tool's or argument's."""
    arguments = {"order": "o-1", "amount": 20}
    other = dict(changed)
    calls = {
        call_of(arguments, **place()).digest,
        call_of(
            other.pop("arguments", arguments), tool=other.pop("tool", None), **place(**other)
        ).digest,
    }
    assert len(calls) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"user": "u-18"},
        {"team": "desk2"},
        {"call_id": "c-2"},
        {"arguments": {"amount": 20, "order": "o-1"}},
        {"tool": Tool(name="refund", risk=Risk.CRITICAL, labels=("x",), cost="amount")},
        {"tool": Tool(name="refund", secrets=("amount",), capabilities=("y",), resource="order")},
    ],
    ids=str,
)
def test_the_digest_changes_with_nothing_else(changed: dict[str, Any]) -> None:
    """Broken if the same call made again after a yes is taken for another one."""
    arguments = {"order": "o-1", "amount": 20}
    other = dict(changed)
    again = call_of(
        other.pop("arguments", arguments), tool=other.pop("tool", None), **place(**other)
    )
    assert call_of(arguments, **place()).digest == again.digest


@pytest.mark.promise(9)
@pytest.mark.parametrize("option", ["cost", "model"])
def test_a_secret_that_would_be_recorded_is_a_fault(option: str) -> None:
    """Broken if an adapter's tool, declared past `@governed`, has a secret stored as its cost or its model."""
    declared: dict[str, Any] = {option: "value", "secrets": ("value",)}
    tool = Tool(name="pay", kind="model" if option == "model" else "tool", **declared)
    call = call_of({"value": "4111"}, tool=tool)
    said = f"argument 'value' is declared as the {option}, which is recorded, and as a secret"
    assert call.faults == (said,)
    assert (call.cost, call.model) == (None, "" if option == "model" else None)
    assert "4111" not in call.recorded


@pytest.mark.promise(5)
@given(st.dictionaries(st.text(max_size=2), values, max_size=3), values, st.text(max_size=2))
def test_any_argument_changes_the_digest(arguments: dict[str, Any], value: Any, name: str) -> None:
    """Broken if there is an argument whose change an approval does not notice."""
    other = {**arguments, name: value}
    same = canonical(arguments) == canonical(other)
    assert same == (call_of(arguments).digest == call_of(other).digest)


@pytest.mark.promise(5)
def test_the_callers_objects_are_left_behind() -> None:
    """Broken if a change made by the caller after the decision reaches the call or the tool."""
    lines = [{"price": 1}]
    call, copied = described({"lines": lines}, Tool(name="t"))
    recorded, digest = call.recorded, call.digest
    lines[0]["price"] = 900
    lines.append({"price": 1})
    assert copied == {"value": {"lines": [{"price": 1}]}}
    assert call.arguments["value"]["lines"] == ({"price": 1},)
    assert (call.recorded, call.digest) == (recorded, digest)
    copied["value"]["lines"].append(3)
    assert call.arguments["value"]["lines"] == ({"price": 1},)


def test_the_call_cannot_be_changed() -> None:
    """Broken if a judge can change the call that the next judge, or the store, sees."""
    call = call_of({"lines": [1]})
    with pytest.raises(AttributeError):
        call.digest = "0" * 64  # type: ignore[misc]
    with pytest.raises(TypeError):
        call.arguments["lines"] = ()  # type: ignore[index]
    assert call.arguments == {"lines": (1,)}


@pytest.mark.parametrize(
    ("value", "text"),
    [("o-1", "o-1"), (7, "7"), (Decimal("1.50"), "1.50"), (None, None), ("\ud800", "\\ud800")],
)
def test_the_resource_is_text(value: Any, text: str | None) -> None:
    """Broken if what a call acts on cannot be stored, or is not what the argument says."""
    assert text == described(value, Tool(name="t", resource="value"))[0].resource


def test_risk_is_a_scale() -> None:
    """Broken if a risk is lower than one that is declared before it."""
    assert sorted(Risk, reverse=True) == [Risk.CRITICAL, Risk.HIGH, Risk.MEDIUM, Risk.LOW]
    assert Tool(name="t").risk is Risk.MEDIUM
