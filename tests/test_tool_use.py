"""The tool calls that a model has asked for: run through the flow, and each answered in words that a model can read."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from interlock import ApprovalNeeded, Governor, Misuse, Session, governed
from interlock.errors import NotConfigured
from interlock.events import CallDecided, CallFinished
from interlock.store import tickets
from interlock.testing import Recorder
from interlock.tool_use import ToolResult, ToolUse, arun_tools, run_tools

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "tools",
    "default": "allow",
    "rules": [
        {"id": "no", "tools": ["drop"], "verdict": "deny", "reason": "never"},
        {"id": "ask", "tools": ["wire"], "verdict": "ask", "approvers": ["ann"]},
        {
            "id": "way",
            "tools": ["send"],
            "verdict": "steer",
            "guidance": "Write a draft.",
            "suggest": ["draft"],
        },
    ],
}


@pytest.fixture
def opened(recorder: Recorder, tmp_path: Path) -> Iterator[tuple[Governor, Session]]:
    """A governor, and an open session of it."""
    url = f"sqlite:///{tmp_path / 'interlock.db'}"
    with (
        Governor(url, policy=POLICY, plugins=[recorder]) as governor,
        governor.session("s", agent="bot") as session,
    ):
        yield governor, session


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run tools, in both ways."""

    async def ran(session: Session, *uses: ToolUse, **options: Any) -> list[ToolResult]:
        if request.param == "async":
            return await arun_tools(session, uses, **options)
        return run_tools(session, uses, **options)

    return ran


def use(name: str, arguments: Any = "{}", number: str = "1") -> ToolUse:
    """Return a call as a model writes it."""
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ToolUse(id=number, name=name, arguments=written)


def pay(amount: int, to: str = "ann") -> str:
    """Pay."""
    return f"{amount} to {to}"


async def test_allowed_calls_run_once(opened: Any, run: Any, recorder: Recorder) -> None:
    """Broken if an allowed call is lost, repeated, judged without its defaults, or answered out of order."""
    uses = [use("pay", {"amount": n}, str(n)) for n in range(3)]
    results = await run(opened[1], *uses, tools=[pay])
    assert [(one.id, one.text, one.is_error) for one in results] == [
        (str(n), f"{n} to ann", False) for n in range(3)
    ]
    decided = [one for one in recorder.events if isinstance(one, CallDecided)]
    assert sorted(json.loads(one.arguments)["amount"] for one in decided) == [0, 1, 2]
    assert {json.loads(one.arguments)["to"] for one in decided} == {"ann"}


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("drop", "drop is denied: never"),
        ("wire", "wire needs approval by ann"),
        ("send", "Write a draft. Use instead: draft."),
    ],
)
async def test_refused_calls_do_not_run(opened: Any, run: Any, name: str, told: str) -> None:
    """Broken if a call runs that is refused, or the model does not read why and what to do instead."""
    ran: list[str] = []

    def drop() -> None:
        ran.append("drop")

    tools = dict.fromkeys(("drop", "wire", "send"), drop)
    (result,) = await run(opened[1], use(name), tools=tools)
    assert told in result.text
    assert (result.is_error, ran) == (True, [])
    assert isinstance(result.error, ApprovalNeeded) is (name == "wire")


@pytest.mark.promise(5)
async def test_what_an_approver_has_changed_is_told(opened: Any, run: Any) -> None:
    """Broken if a call that waits for a yes cannot be made again, or the model is not told what has run instead."""
    governor, session = opened

    def wire(amount: int) -> str:
        return f"{amount} wired"

    (waits,) = await run(session, use("wire", {"amount": 900}), tools=[wire])
    governor.write(tickets.approve, waits.error.ticket.id, by="ann", arguments={"amount": 9})
    (result,) = await run(session, use("wire", {"amount": 900}), tools=[wire])
    assert result.text.startswith("9 wired\n\nNote: ann has changed this call")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("{", "are not JSON"),
        ("[1]", "are not a JSON object"),
        ('{"amount": 1, "amount": 2}', "name something twice"),
        ('{"amount": NaN}', "are not JSON"),
        ('{"a":' * 5_000, "are nested too deeply"),
        ("{}", "amount: Field required"),
        ('{"amount": "much"}', "amount: Input should be a valid integer"),
        ('{"amount": 1, "fee": 2}', "fee: Extra inputs are not permitted"),
    ],
    ids=range(8),
)
async def test_what_cannot_be_read(
    opened: Any, run: Any, recorder: Recorder, arguments: str, told: str
) -> None:
    """Broken if arguments that are none reach a tool, or the model does not learn what is wrong with them."""
    (result,) = await run(opened[1], use("pay", arguments), tools=[pay])
    assert told in result.text
    assert result.is_error
    assert [one for one in recorder.events if isinstance(one, CallDecided)] == []


class Equal:
    """Tools that are equal, whatever they do."""

    def __init__(self, says: str) -> None:
        self.says = says
        self.__name__ = "look"

    def __call__(self) -> str:
        """Look."""
        return self.says

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equal)

    def __hash__(self) -> int:
        return 0


async def test_equal_tools_are_not_taken_for_each_other(opened: Any, run: Any) -> None:
    """Broken if a tool runs that another turn has offered, or gets its default, because the two are equal."""

    def one(flag: bool = True) -> str:
        return repr(flag)

    def other(flag: int = 1) -> str:
        return repr(flag)

    _, session = opened
    told = []
    for tool in (Equal("this"), Equal("that")):
        told += [one.text for one in await run(session, use("look"), tools=[tool])]
    for function in (one, other):
        made = await run(session, use("look"), tools={"look": function})
        told += [one.text for one in made]
    assert told == ["this", "that", "True", "1"]


async def test_a_tool_that_nobody_offers(opened: Any, run: Any) -> None:
    """Broken if a model that invents a tool ends the loop."""
    (result,) = await run(opened[1], use("fly"), tools=[pay])
    assert result.text == "fly was not run: there is no such tool."


async def test_errors_of_tools(opened: Any, run: Any, recorder: Recorder) -> None:
    """Broken if a tool's exception is lost, recorded as something else, or keeps other calls from their results."""

    def fail() -> None:
        raise LookupError("no such order")

    uses = [use("fail", number="1"), use("pay", {"amount": 1}, "2")]
    failed, paid = await run(opened[1], *uses, tools=[fail, pay])
    assert (failed.text, failed.is_error) == ("fail failed: LookupError: no such order", True)
    assert (paid.text, paid.is_error) == ("1 to ann", False)
    finished = [one for one in recorder.events if isinstance(one, CallFinished)]
    assert sorted(str(one.outcome) for one in finished) == ["raised", "returned"]

    raised: list[Exception] = []

    def strict(_: ToolUse, error: Exception) -> str:
        raised.append(error)
        raise error

    with pytest.raises(LookupError) as found:
        await run(opened[1], use("fail"), tools=[fail], on_error=strict)
    assert found.value is raised[0]


async def test_governed_functions_are_judged_once(
    opened: Any, run: Any, recorder: Recorder
) -> None:
    """Broken if a governed function is judged twice, or what it declares is not known."""

    @governed(name="refund", cost="amount")
    def pay_back(amount: Decimal) -> str:
        return f"{amount!r}"

    (result,) = await run(opened[1], use("refund", '{"amount": 20.5}'), tools=[pay_back])
    assert result.text == "Decimal('20.5')"
    (decided,) = [one for one in recorder.events if isinstance(one, CallDecided)]
    assert (decided.tool, decided.reserved.cost if decided.reserved else None) in {
        ("refund", None),
        ("refund", 20_500_000_000),
    }


async def test_results_that_are_no_text(opened: Any, run: Any) -> None:
    """Broken if a result that is a value of Python's is told as such, and not as JSON where it has one."""
    thing = threading.Lock()

    def give(what: str) -> Any:
        return {"data": {"at": Decimal("1.5"), "n": [None]}, "odd": thing}[what]

    data, odd = await run(
        opened[1], use("give", {"what": "data"}), use("give", {"what": "odd"}), tools=[give]
    )
    assert json.loads(data.text) == {"at": "1.5", "n": [None]}
    assert odd.text == str(thing)


async def test_async_tools_run_together(opened: Any) -> None:
    """Broken if calls of one answer wait for each other, or a coroutine function is not awaited."""
    met = anyio.Event()

    async def first() -> str:
        await met.wait()
        return "1"

    async def second() -> str:
        met.set()
        return "2"

    uses = [use("first"), use("second", number="2")]
    with anyio.fail_after(20):
        results = await arun_tools(opened[1], uses, tools=[first, second])
    assert [one.text for one in results] == ["1", "2"]
    with pytest.raises(Misuse, match="first, second must be awaited"):
        run_tools(opened[1], uses, tools=[first, second])


@pytest.mark.parametrize(
    "tools", [[pay, pay], [5], [lambda *args: None], [lambda a, /: None]], ids=range(4)
)
async def test_tools_that_cannot_be_offered(opened: Any, run: Any, tools: Any) -> None:
    """Broken if a tool that a model cannot call, or not by one name, is found out only when it calls it."""
    with pytest.raises(Misuse):
        await run(opened[1], tools=tools)


async def test_what_cannot_be_judged_ends_the_loop(run: Any, tmp_path: Path) -> None:
    """Broken if a model is told of what is the host's to repair, as if it were a refusal."""
    with (
        Governor(f"sqlite:///{tmp_path / 'i.db'}") as governor,
        governor.session("s", agent="bot") as session,
        pytest.raises(NotConfigured),
    ):
        await run(session, use("pay", {"amount": 1}), tools=[pay])
