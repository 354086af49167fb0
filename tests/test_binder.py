"""The generated binder: it binds exactly as Python calls, whatever the signature, and passes on as was given."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from interlock import Governor, governed
from interlock._binder import Parameters

Given = tuple[tuple[Any, ...], dict[str, Any]]

# Ordinary names, and those that code around the tool uses itself.
NAMES = ["a", "b", "order", "self", "cls", "args", "kwargs", "bound", "called", "_0", "_1", "dict"]

names = st.sampled_from(NAMES)


@st.composite
def signatures(draw: st.DrawFn) -> str:
    """Parameters, as they stand in a `def`: some of each kind, with defaults where there may be any."""
    found = draw(st.lists(names, unique=True, max_size=7))
    cuts = sorted(draw(st.lists(st.integers(0, len(found)), min_size=2, max_size=2)))
    before, between, after = found[: cuts[0]], found[cuts[0] : cuts[1]], found[cuts[1] :]
    plain = draw(st.integers(0, cuts[1]))  # from here on, there are defaults
    positional = [
        name if place < plain else f"{name}='default of {name}'"
        for place, name in enumerate(before + between)
    ]
    parts = [*positional[: len(before)], *(["/"] if before else []), *positional[len(before) :]]
    if draw(st.booleans()):
        parts.append("*rest")
    elif after:
        parts.append("*")
    parts += [draw(st.sampled_from([name, f"{name}='default of {name}'"])) for name in after]
    if draw(st.booleans()):
        parts.append("**others")
    return ", ".join(parts)


calls: st.SearchStrategy[Given] = st.tuples(
    st.lists(st.integers(), max_size=5).map(tuple),
    st.dictionaries(names | st.sampled_from(["z", "rest", "others"]), st.integers(), max_size=5),
)


def taker(signature: str) -> Callable[..., dict[str, Any]]:
    """Make a function that returns what it was called with."""
    scope: dict[str, Any] = {}
    exec(f"def tool({signature}): return locals()", scope)  # noqa: S102 - the point is any signature
    made: Callable[..., dict[str, Any]] = scope["tool"]
    return made


def outcome(function: Callable[..., Any], how: Given) -> Any:
    """What a call gives, or that it is none."""
    try:
        return function(*how[0], **how[1])
    except TypeError:
        return TypeError


@given(signatures(), calls)
@example("a, /, b=1, *rest, c=2, **others", ((1, 2, 3), {"a": 4, "c": 5, "z": 6}))
@example("self, /, **others", ((1,), {"self": 2}))
@example("function=1, *, called", ((), {"called": 2}))
def test_binding_is_pythons(signature: str, how: Given) -> None:
    """Broken if a call is read otherwise than Python reads it: another value would be judged than runs."""
    tool = taker(signature)
    bound = outcome(Parameters(tool, "tool").bound, how)
    assert outcome(tool, how) == bound
    if bound is not TypeError:
        assert list(inspect.signature(tool).parameters) == list(bound)


@given(signatures(), calls)
def test_binding_is_that_of_inspect(signature: str, how: Given) -> None:
    """Broken if the generated binder and `inspect.Signature.bind` disagree on any call."""
    tool = taker(signature)
    found = inspect.signature(tool)
    only_by_place = {n for n, p in found.parameters.items() if p.kind is p.POSITIONAL_ONLY}
    if only_by_place & how[1].keys():
        return  # where inspect itself is wrong before Python 3.13; the test above covers it

    def bind(*args: Any, **kwargs: Any) -> dict[str, Any]:
        bound = found.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    assert outcome(bind, how) == outcome(Parameters(tool, "tool").bound, how)


@given(signatures(), calls)
def test_the_copies_are_passed_on_as_the_originals_came(signature: str, how: Given) -> None:
    """Broken if an argument arrives under another name, by place instead of by name, or a default is passed."""
    tool = taker(signature)
    args, kwargs = how
    bound = outcome(Parameters(tool, "tool").bound, how)
    if bound is TypeError:
        return
    copies = {
        name: tuple(map(str, value))
        if name == "rest" and isinstance(value, tuple)
        else {key: str(item) for key, item in value.items()}
        if name == "others" and isinstance(value, dict)
        else str(value)
        for name, value in bound.items()
    }
    placed, named = Parameters(tool, "tool").placed(copies, args, kwargs)
    expected = [str(value) for value in args], {key: str(value) for key, value in kwargs.items()}
    assert expected == (list(placed), dict(named))


class Hostile:
    """A default that breaks whoever looks at it."""

    def __repr__(self) -> str:
        raise RuntimeError

    __eq__ = __hash__ = __bool__ = __str__ = __repr__  # type: ignore[assignment]


def test_a_default_is_the_object_itself() -> None:
    """Broken if a default is read, copied or written into the binder as text."""
    default = Hostile()

    def tool(first: Any = default, /, *, second: Any = default) -> None: ...

    bound = Parameters(tool, "tool").bound()
    assert bound["first"] is default
    assert bound["second"] is default


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        (((), {}), r"^pay\(\) missing 1 required positional argument: 'order'$"),
        ((("o", 1, 2), {}), r"^pay\(\) takes from 1 to 2 positional arguments but 3 were given$"),
        ((("o",), {"ammount": 1}), r"^pay\(\) got an unexpected keyword argument 'ammount'$"),
        ((("o",), {"order": "o"}), r"^pay\(\) got multiple values for argument 'order'$"),
    ],
    ids=["missing", "many", "unknown", "twice"],
)
def test_a_wrong_call_is_said_in_pythons_words(
    how: Given, complaint: str, governor: Callable[..., Governor]
) -> None:
    """Broken if a wrong call is recorded as one, or its error does not name the tool."""

    @governed(name="pay")
    def tool(order: str, amount: int = 0) -> None: ...

    with governor().session("s", agent="bot") as session:
        with pytest.raises(TypeError, match=complaint):
            tool(*how[0], **how[1])
        assert session.state().verdicts == {}


ODD = [
    "\ufb01",
    "\u2160",
    "__debug__",
    "\u017f",
]  # what Python would write otherwise, or not at all


@pytest.mark.parametrize("name", ODD)
def test_names_that_cannot_be_written_are_bound_all_the_same(name: str) -> None:
    """Broken if a signature made by hand, whose names Python spells otherwise, is bound under another name."""

    def tool(**others: Any) -> None: ...

    kind = inspect.Parameter.KEYWORD_ONLY
    tool.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind), inspect.Parameter("plain", kind, default=2)]
    )
    parameters = Parameters(tool, "pay")
    assert parameters.bound(**{name: 1}) == {name: 1, "plain": 2}
    assert parameters.placed({name: "one", "plain": 2}, (), {name: 1}) == ([], {name: "one"})
    with pytest.raises(TypeError, match=r"^pay\(\) missing a required argument"):
        parameters.bound(plain=1)


@pytest.mark.parametrize("text", ["a}\n1 / 0\n{1: 1", "a): import os; (b", "a b", "", "a\n"])
def test_only_names_get_into_the_source(text: str) -> None:
    """Broken if text that is no name, from a signature made by hand, is compiled."""

    class Text(inspect.Parameter):
        """A parameter that says it is called something else."""

        name = text  # type: ignore[assignment]

    def tool(*args: Any) -> None: ...

    forged = inspect.Signature([Text("a", inspect.Parameter.POSITIONAL_ONLY)])
    tool.__signature__ = forged  # type: ignore[attr-defined]
    assert Parameters(tool, "pay").bound(1) == {text: 1}


def test_inspect_is_asked_at_decoration_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if every call pays for reading the signature."""

    def tool(order: str, *rest: int, amount: int = 0, **others: int) -> None: ...

    parameters = Parameters(tool, "pay")
    monkeypatch.delattr(inspect.Signature, "bind")
    expected = {"order": "o", "rest": (1,), "amount": 0, "others": {"z": 2}}
    assert parameters.bound("o", 1, z=2) == expected
