"""What was approved is what runs: no difference between the two passes, and what is none stands in nobody's way."""

from __future__ import annotations

import copy
import inspect
import random
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest

from interlock import ApprovalNeeded, Governor, Session, Tool, governed, schema_digest, tool_of
from interlock._call import Identity, describe
from interlock.policy import Policy
from interlock.store import policies, tickets

Make = Callable[..., Governor]
ASK: dict[str, Any] = {"version": 1, "name": "ask", "default": "ask"}
OTHER: dict[str, Any] = {**ASK, "name": "other"}
SEED = 20_260_101
WANTED = 5_000
PARAMETERS = schema_digest(["order", "lines", "note"])
TOOL = Tool(name="pay", schema=PARAMETERS)
RAN: list[Any] = []
KINDS = (
    *("value", "type", "nesting", "unicode", "key", "missing", "extra", "swap", "mutated"),
    *("tool", "schema", "agent", "session", "org", "policy"),
)
"""In what the call that is made differs; `mutated` is a change of the very object that the approved call was given."""


def value(rng: random.Random, depth: int = 0) -> Any:
    """Any argument."""
    kinds: list[Callable[[], Any]] = [
        lambda: rng.randrange(-5, 5),
        lambda: rng.choice([0.5, 1.0, 2.0]),
        lambda: rng.random() < 0.5,
        lambda: rng.choice(["", "1", "o-1", "é", "ﬁ", "Å", "x" * rng.randrange(9)]),
        lambda: Decimal(rng.randrange(100)) / 4,
        lambda: rng.choice([None, b"1", ("a",)]),
    ]
    if depth < 3:
        kinds += [
            lambda: [value(rng, depth + 1) for _ in range(rng.randrange(4))],
            lambda: {
                rng.choice("abcdefg") + str(n): value(rng, depth + 1)
                for n in range(rng.randrange(4))
            },
        ]
    return rng.choice(kinds)()


def spots(inside: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a nest of dicts and lists."""
    yield path
    items: Any = (
        inside.items()
        if isinstance(inside, dict)
        else enumerate(inside)
        if isinstance(inside, list)
        else ()
    )
    for key, item in items:
        yield from spots(item, (*path, key))


def at(inside: Any, path: tuple[Any, ...]) -> Any:
    """What stands there."""
    for key in path:
        inside = inside[key]
    return inside


def put(inside: Any, path: tuple[Any, ...], new: Any) -> None:
    """Put something else there."""
    at(inside, path[:-1])[path[-1]] = new


def twins(one: Any) -> list[Any]:
    """What looks like a value, or equals it to Python, and is another."""
    found: list[Any] = [[one], (one,), {"a": one}, str(one) + " ", str(one)]
    if isinstance(one, (bool, int, float, Decimal)):
        found += [int(one), float(one), bool(one), Decimal(str(float(one))), str(int(one)), one + 1]
    if isinstance(one, str):
        found += [unicodedata.normalize(form, one) for form in ("NFC", "NFD", "NFKC", "NFKD")]
        found += [one.upper(), one + "\u200b", one.encode(), "\u202e" + one]
    if isinstance(one, list):
        found += [tuple(one), one[::-1], [*one, None], one[:-1]]
    if isinstance(one, dict):
        found += [{**one, "z": None}, list(one.items()), {key.upper(): one[key] for key in one}]
    return [other for other in found if not same(one, other)]


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same, types, keys and spelling too, by plain Python and without our own code."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


Changed = tuple[Tool, dict[str, Any], dict[str, Any], Any]


def difference(  # noqa: C901, PLR0912 - a kind of difference a case
    rng: random.Random, arguments: dict[str, Any]
) -> tuple[str, Changed] | None:
    """One way in which the call that is made differs from the one that was approved; None: it does not, this time."""
    tool, policy = TOOL, ASK
    who: dict[str, Any] = {}
    before, made = copy.deepcopy(arguments), copy.deepcopy(arguments)
    path = rng.choice([spot for spot in spots(made) if spot])
    kind = rng.choice(KINDS)
    if kind == "mutated":
        made = arguments
    old = at(made, path)
    match kind:
        case "value" | "mutated":
            put(made, path, value(rng))
        case "type" | "nesting" | "unicode":
            options = twins(old)
            if kind == "unicode" and not isinstance(old, str):
                return None
            put(made, path, rng.choice(options))
        case "key":
            holder = at(made, path[:-1])
            if not isinstance(holder, dict):
                return None
            holder[str(path[-1]) + rng.choice(["x", " ", "\u0301"])] = holder.pop(path[-1])
        case "missing":
            at(made, path[:-1]).pop(path[-1])
        case "extra":
            made[rng.choice(["zz", "order ", "Order"])] = value(rng)
        case "swap":
            names = rng.sample(sorted(made), 2)
            made[names[0]], made[names[1]] = made[names[1]], made[names[0]]
        case "tool":
            tool = Tool(name=rng.choice(["pay2", "Pay", "pay ", "p\u0430y"]), schema=PARAMETERS)
        case "schema":
            tool = Tool(name="pay", schema=rng.choice([None, schema_digest(value(rng))]))
        case "agent":
            who = {"agent": rng.choice(["eve", "Bot", "bot "])}
        case "org":
            who = {"org": rng.choice([None, "globex", "Acme"])}
        case "session":
            who = {"session": "another"}
        case _:
            policy = OTHER
    is_same = tool == TOOL and not who and policy is ASK and same(made, before)
    return None if is_same else (kind, (tool, who, policy, made))


def harmless(rng: random.Random, inside: Any) -> Any:
    """The same value, its keys in another order."""
    if isinstance(inside, dict):
        keys = rng.sample(list(inside), len(inside))
        return {key: harmless(rng, inside[key]) for key in keys}
    return [harmless(rng, item) for item in inside] if isinstance(inside, list) else inside


def outcome(session: Session, tool: Tool, arguments: dict[str, Any]) -> str:
    """What comes of a call."""
    try:
        return session.call(tool, arguments, lambda given: RAN.append(given) or "ran")  # type: ignore[func-returns-value]
    except ApprovalNeeded:
        return "asked"


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    "rounds", [50, pytest.param(250, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
def test_no_difference_passes(rounds: int, governor: Make) -> None:
    """Broken if, of 5,000 calls that differ from an approved one, one runs; or if one that does not is refused."""
    rng = random.Random(SEED)
    refused: Counter[str] = Counter()
    passed = 0
    made = governor(ASK, url="sqlite://")
    other = governor(OTHER, url="sqlite://")
    RAN.clear()
    for round_ in range(rounds):
        session = made.session(f"s-{round_}", agent="bot", org="acme")
        another = made.session(f"s-{round_}", agent="bot", org="acme")
        with session, another:
            approved = [
                {"order": f"{round_}-{n}", "lines": value(rng), "note": value(rng)}
                for n in range(4)
            ]
            for arguments in approved:
                assert outcome(session, TOOL, arguments) == "asked"
                [ticket] = made.read(tickets.pending, limit=100)[-1:]
                made.write(tickets.approve, ticket.id, by="ann")
            pristine = copy.deepcopy(approved)
            for _ in range(30):
                place = rng.randrange(len(approved))
                found = difference(rng, approved[place])
                if found is None:
                    approved[place] = copy.deepcopy(pristine[place])
                    continue
                kind, (tool, who, policy, changed) = found
                where = another if "session" in who else session
                assert tried(where, tool, who, policy is not ASK and other, changed) == "asked", (
                    kind
                )
                refused[kind] += 1
                approved[place] = copy.deepcopy(pristine[place])
            assert RAN == []
            for arguments in approved:
                assert outcome(session, TOOL, harmless(rng, arguments)) == "ran"
                assert same(RAN.pop(), arguments)
                passed += 1
    assert passed == 4 * rounds
    while sum(refused.values()) < WANTED:  # the digest decides, and it needs no store
        arguments = {"order": "o", "lines": value(rng), "note": value(rng)}
        pristine_one, before = copy.deepcopy(arguments), digest_of(TOOL, arguments)
        found = difference(rng, arguments)
        if found is None or found[1][2] is not ASK:
            continue
        kind, (tool, who, _, changed) = found
        assert digest_of(tool, changed, **who) != before, kind
        assert digest_of(TOOL, harmless(rng, pristine_one)) == before
        refused[kind] += 1
    assert sum(refused.values()) >= WANTED
    assert set(refused) == set(KINDS)
    assert min(refused.values()) > 10


def tried(
    session: Session, tool: Tool, who: dict[str, Any], other: Any, arguments: dict[str, Any]
) -> str:
    """What comes of a call in that session, for somebody else, or under another policy."""
    identity, machinery = session.identity, session._machinery
    fields = {"agent": identity.agent, "org": identity.org, **who}
    fields.pop("session", None)
    session.identity = Identity(**fields)
    if other:
        found = machinery.judges
        assert found is not None
        session._machinery = msgspec.structs.replace(machinery, judges=other._machinery.judges)
        machinery.store.write(_keep, other.policy)
    try:
        return outcome(session, tool, arguments)
    finally:
        session.identity, session._machinery = identity, machinery


def _keep(connection: Any, policy: Policy) -> None:

    policies.keep(connection, policy.digest, name=policy.name, document=policy.text)


def digest_of(
    tool: Tool,
    arguments: dict[str, Any],
    *,
    session: str = "s",
    agent: str = "bot",
    org: Any = "acme",
) -> str:
    """What a ticket is bound to."""
    identity = Identity(agent=agent, org=org)
    call, _ = describe(tool, arguments, call_id="c", session_id=session, identity=identity)
    return call.digest


def of(function: Any) -> str | None:
    """The digest of what parameters a function takes."""
    found = tool_of(governed(name="t")(function))
    assert found is not None
    return found.schema


SAME: list[tuple[Any, Any]] = [
    (lambda a, b=1: None, lambda a, b=2: None),
    (lambda *a: None, lambda *a: 5),
]
OTHERS: list[Any] = [
    lambda a: None,
    lambda b: None,
    lambda a, b: None,
    lambda b, a: None,
    lambda a, b=1: None,
    lambda a, /: None,
    lambda *, a: None,
    lambda *a: None,
    lambda **a: None,
]


def _annotated() -> list[Any]:
    def one(a: int) -> None: ...
    def two(a: float) -> None: ...
    def three(a: int | None) -> None: ...
    def four(a: list[int]) -> None: ...
    def five(a: Annotated[int, "cents"]) -> None: ...

    return [one, two, three, four, five]


@pytest.mark.promise(5)
def test_a_schema_is_of_names_kinds_and_annotations() -> None:
    """Broken if a tool whose parameters were changed takes an approval for those it had, or an unchanged one none."""
    found = [of(function) for function in [*OTHERS, *_annotated()]]
    assert len(set(found)) == len(found)
    assert None not in found
    for one, other in SAME:
        assert of(one) == of(other)


def test_a_schema_is_the_same_in_every_process() -> None:
    """Broken if an annotation that prints its address makes an approval worthless in another process."""

    def checked(value: int) -> int:
        return value

    def make() -> Any:
        def tool(a: Any) -> None: ...

        tool.__annotations__ = {"a": Annotated[int, lambda value: value]}
        return tool

    assert of(make()) == of(make())
    tool = make()
    tool.__annotations__ = {"a": Annotated[int, checked]}
    assert "0x" in inspect.formatannotation(tool.__annotations__["a"])
    assert of(tool) == of(tool)


class Shop:
    """Something with a method."""

    @governed
    def sell(self, a: int) -> None:
        """Sell."""


def test_a_method_has_the_schema_of_what_its_callers_give() -> None:
    """Broken if what a method is found on is part of what it takes."""
    found = tool_of(Shop.sell)

    def sell(a: int) -> None: ...

    assert found is not None
    assert found.schema == of(sell)


def test_the_order_of_a_schemas_keys_is_irrelevant() -> None:
    """Broken if two spellings of one JSON Schema are two schemas."""
    one = {"type": "object", "properties": {"a": {"type": "string"}}}
    other = {"properties": {"a": {"type": "string"}}, "type": "object"}
    assert schema_digest(one) == schema_digest(other)
    assert schema_digest(one) != schema_digest({**one, "required": ["a"]})
