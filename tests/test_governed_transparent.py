"""A governed function is indistinguishable: to inspect, typing, pickle, copy, help and the types of its results."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import pickle
import pydoc
import textwrap
import types
import typing
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pydantic
import pytest

from interlock import Governor, Session
from tests import sample_tools
from tests.sample_tools import Desk

MakeGovernor = Callable[..., Governor]

FUNCTIONS = ("refund", "fetch", "lines", "alines")
METHODS = ("refund", "named", "anywhere")

# Everything that the standard library and frameworks ask of a function, as a function of it.
QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "signature": inspect.signature,
    "signature-evaluated": lambda f: inspect.signature(f, eval_str=True),
    "fullargspec": inspect.getfullargspec,
    "hints": typing.get_type_hints,
    "annotations": inspect.get_annotations,
    "module": lambda f: f.__module__,
    "doc": inspect.getdoc,
    "defaults": lambda f: f.__defaults__,
    "kwdefaults": lambda f: f.__kwdefaults__,
    "globals": lambda f: f.__globals__ is vars(sample_tools),
    "closure": lambda f: f.__closure__,
    "isfunction": inspect.isfunction,
    "isroutine": inspect.isroutine,
    "ismethod": inspect.ismethod,
    "isbuiltin": inspect.isbuiltin,
    "isclass": inspect.isclass,
    "iscoroutinefunction": inspect.iscoroutinefunction,
    "asyncio.iscoroutinefunction": asyncio.iscoroutinefunction,
    "isgeneratorfunction": inspect.isgeneratorfunction,
    "isasyncgenfunction": inspect.isasyncgenfunction,
    "isawaitable": inspect.isawaitable,
    "isinstance-function": lambda f: isinstance(f, types.FunctionType),
    "isinstance-method": lambda f: isinstance(f, types.MethodType),
    "callable": callable,
    "truth": bool,
    "getmodule": inspect.getmodule,
    "getsourcefile": inspect.getsourcefile,
    "code-flags": lambda f: f.__code__.co_flags,
    "varnames": lambda f: f.__code__.co_varnames,
}


def source(function: Any) -> str:
    """The source of *function*, from its `def` on and without the prefix of plain twins."""
    text = textwrap.dedent(inspect.getsource(function)).replace("plain_", "")
    return " ".join(text[text.index("def ") :].split()).replace("( ", "(").replace(" )", ")")


@pytest.fixture
def session(governor: MakeGovernor) -> Iterator[Session]:
    """An open session in which everything is allowed."""
    with governor(url="sqlite://").session("s", agent="bot") as session:
        yield session


@pytest.mark.promise(8)
@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_answer_as_plain_ones(name: str, question: str) -> None:
    """Broken if anything that reads functions sees a difference."""
    ask = QUESTIONS[question]

    assert ask(getattr(sample_tools, name)) == ask(getattr(sample_tools, f"plain_{name}"))


@pytest.mark.promise(8)
@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("place", [Desk, Desk()], ids=["class", "object"])
def test_methods_answer_as_plain_ones(place: Any, name: str, question: str) -> None:
    """Broken if anything that reads methods sees a difference."""
    ask = QUESTIONS[question]

    assert ask(getattr(place, name)) == ask(getattr(place, f"plain_{name}"))


@pytest.mark.promise(8)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_names_and_source(name: str) -> None:
    """Broken if tracebacks, help or source views speak of the wrapper."""
    tool, plain = getattr(sample_tools, name), getattr(sample_tools, f"plain_{name}")

    assert (tool.__name__, tool.__qualname__) == (name, name)
    assert source(tool) == source(plain)
    assert tool.__wrapped__.__code__ is tool.__code__


@pytest.mark.parametrize("name", METHODS)
def test_names_and_source_of_methods(name: str) -> None:
    """Broken if tracebacks, help or source views of a method speak of the wrapper."""
    tool, plain = getattr(Desk(), name), getattr(Desk(), f"plain_{name}")

    assert (tool.__name__, tool.__qualname__) == (name, f"Desk.{name}")
    assert source(tool) == source(plain)
    assert getattr(tool, "__self__", None) == getattr(plain, "__self__", None)


def test_help_is_the_functions_own() -> None:
    """Broken if `help()` shows a wrapper in the place of the tool."""
    for name in FUNCTIONS:
        tool, plain = getattr(sample_tools, name), getattr(sample_tools, f"plain_{name}")
        shown = [pydoc.plain(pydoc.render_doc(function)) for function in (tool, plain)]
        assert shown[0] == shown[1].replace("plain_", "")
    whole = pydoc.plain(pydoc.render_doc(Desk))
    for name in METHODS:
        assert whole.count(f" {name}(") == whole.count(f" plain_{name}(") == 1
    assert "Governed" not in whole


@pytest.mark.promise(8)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_functions_pickle_to_themselves(name: str, protocol: int) -> None:
    """Broken if a governed function cannot be sent to another process, or arrives ungoverned."""
    tool = getattr(sample_tools, name)

    assert pickle.loads(pickle.dumps(tool, protocol)) is tool  # noqa: S301 - our own bytes
    assert pickle.loads(pickle.dumps({"tools": [tool]}, protocol)) == {"tools": [tool]}  # noqa: S301


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("place", [Desk, Desk("back")], ids=["class", "object"])
def test_methods_pickle_and_copy_as_plain_ones(place: Any, name: str, session: Session) -> None:
    """Broken if a method cannot be sent to another process, or a copy works on the wrong object."""
    tool, plain = getattr(place, name), getattr(place, f"plain_{name}")
    call = {"args": [Desk("back"), "o-1"] if place is Desk and name == "refund" else ["o-1"]}

    for remade in (pickle.loads(pickle.dumps(tool)), copy.copy(tool), copy.deepcopy(tool)):  # noqa: S301
        assert getattr(remade, "__self__", None) == getattr(tool, "__self__", None)
        assert remade.__qualname__ == tool.__qualname__
        assert type(remade) is type(tool)
        assert remade(*call["args"]) == plain(*call["args"])
    assert len(session.state().verdicts) == 1
    assert sum(session.state().outcomes.values()) == 3


def test_deep_copy_of_a_method_copies_its_object() -> None:
    """Broken if a copied object's methods still work on the original."""
    desk = Desk("front")
    tool, plain = copy.deepcopy((desk.refund, desk.plain_refund))

    assert tool.__self__ is not desk
    assert tool.__self__ is plain.__self__
    assert tool.__self__ == desk


@pytest.mark.promise(8)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_copy_to_themselves(name: str) -> None:
    """Broken if copying a data structure that holds a tool fails or takes its governance off."""
    tool = getattr(sample_tools, name)

    assert copy.copy(tool) is tool
    assert copy.deepcopy(tool) is tool
    assert copy.deepcopy({"tools": [tool]})["tools"][0] is tool


def test_functions_are_keys_and_have_identity() -> None:
    """Broken if registries that hold functions cannot find them again, or mix them up."""
    desk, other = Desk("a"), Desk("b")
    registry = {
        sample_tools.refund: "refund",
        sample_tools.fetch: "fetch",
        desk.refund: "a",
        other.refund: "b",
        Desk.named: "named",
    }

    assert registry[sample_tools.refund] == "refund"
    assert registry[sample_tools.fetch] == "fetch"
    assert (registry[desk.refund], registry[other.refund]) == ("a", "b")
    assert registry[Desk.named] == "named"
    assert len(registry) == 5
    assert desk.refund != other.refund


def test_functions_can_be_referred_to_weakly() -> None:
    """Broken if registries that hold functions weakly cannot hold governed ones, or keep them alive."""

    @sample_tools.governed
    def tool() -> None:
        pass

    reference = weakref.ref(tool)
    assert reference() is tool
    del tool
    gc.collect()
    assert reference() is None


def test_attributes_are_the_functions_own() -> None:
    """Broken if frameworks cannot leave their marks on a tool, or `functools.wraps` does not carry it on."""

    @sample_tools.governed
    def tool(order: str) -> None:
        """Do."""

    tool.mark = "x"

    @functools.wraps(tool)
    def outer(*args: Any) -> Any:
        return tool(*args)

    assert vars(tool) == {"mark": "x"}
    assert outer.mark == "x"
    assert (outer.__name__, outer.__doc__) == ("tool", "Do.")
    assert inspect.signature(outer) == inspect.signature(tool)


def test_consumers_that_read_the_signature(session: Session) -> None:
    """Broken if what turns functions into schemas and validators reads the wrapper's signature."""
    schema = pydantic.TypeAdapter(sample_tools.lines).json_schema()
    plain = pydantic.TypeAdapter(sample_tools.plain_lines).json_schema()
    validated = pydantic.validate_call(sample_tools.fetch)

    assert schema == plain
    assert asyncio.run(validated(order="o-1")) == "o-1"
    with pytest.raises(pydantic.ValidationError):
        asyncio.run(validated(order=object()))


@pytest.mark.promise(8)
def test_results_are_of_the_same_type(session: Session) -> None:
    """Broken if frameworks cannot tell by its result what kind of tool they called."""
    coroutine, generator, async_generator = (
        sample_tools.fetch("o-1"),
        sample_tools.lines("o-1"),
        sample_tools.alines("o-1"),
    )

    assert (inspect.iscoroutine(coroutine), inspect.isawaitable(coroutine)) == (True, True)
    assert asyncio.iscoroutine(coroutine)
    assert inspect.isgenerator(generator)
    assert inspect.isasyncgen(async_generator)
    assert type(coroutine) is types.CoroutineType
    assert type(generator) is types.GeneratorType
    assert type(async_generator) is types.AsyncGeneratorType
    names = [(made.__name__, made.__qualname__) for made in (coroutine, generator, async_generator)]
    assert names == [("fetch", "fetch"), ("lines", "lines"), ("alines", "alines")]
    coroutine.close()


def test_a_coroutine_that_is_forgotten_warns_by_the_tools_name(session: Session) -> None:
    """Broken if Python's warning about a missing `await` does not say of which tool."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sample_tools.fetch("o-1")
        gc.collect()

    assert [str(warning.message) for warning in caught] == ["coroutine 'fetch' was never awaited"]
    assert session.state().verdicts == {}
