"""Tool uses: judged once, recorded, run once or not at all, and the model told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import claude_agent_sdk
import pytest
from claude_agent_sdk import (
    HookMatcher,
    PermissionResultAllow,
    PermissionResultDeny,
    ResultMessage,
    create_sdk_mcp_server,
)
from claude_agent_sdk import tool as sdk_tool

import interlock_claude_agent_sdk
from interlock import Risk, Tool, current_call, governed
from interlock.errors import NotConfigured
from interlock_claude_agent_sdk import Script, say, use

DONE = [say("done")]


@pytest.mark.promise(1, 6)
async def test_an_allowed_tool_runs_once(desk: Any) -> None:
    """Broken if an allowed tool does not run, runs twice, or is not in the books from intent to outcome."""
    with (
        desk.open({"tools": ["Bash"], "verdict": "allow"}),
        Script([use("Bash", command="echo x >> A; echo ran", description="d")], DONE) as script,
    ):
        told = await desk.run(script)
    assert (told, (desk.work / "A").read_text("utf-8")) == (["ran"], "x\n")
    assert desk.booked() == [("Bash", "allow"), ("Bash", "returned")]
    assert desk.messages[-1].result == "done"


@pytest.mark.promise(1)
async def test_a_denied_tool_never_runs(desk: Any) -> None:
    """Broken if a denied tool runs, or the model is not told why and that it must not be tried again."""
    with desk.open(), Script([desk.touch("A")], DONE) as script:
        told = await desk.run(script)
    assert told == [
        "Bash is denied: no rule matches, and the policy's default is deny. Do not retry it."
    ]
    assert (desk.left, desk.booked()) == ([], [("Bash", "deny")])


async def test_a_steered_model_takes_the_other_way(desk: Any) -> None:
    """Broken if the model is not told what to do instead, or cannot then do it."""
    rules: list[dict[str, Any]] = [
        {
            "tools": ["Bash"],
            "verdict": "steer",
            "guidance": "Pay by the bank.",
            "suggest": ["bank.pay"],
        },
        {"tools": ["bank.pay"], "verdict": "allow"},
    ]
    turns = [desk.touch("A")], [use("mcp__bank__pay", amount=5)], DONE
    with desk.open(*rules), Script(*turns) as script:
        told = await desk.run(script, mcp_servers={"bank": desk.bank()})
    assert told == [
        "Bash was not run: rule rule-0 says steer. Pay by the bank. Use instead: bank.pay.",
        "paid 5",
    ]
    assert (desk.left, desk.paid) == ([], [5])


async def test_a_tool_of_this_process(desk: Any) -> None:
    """Broken if a tool of this process is not judged with its arguments, by the name that other adapters give it."""
    rule = {
        "tools": ["bank.pay"],
        "when": {"argument": "amount", "at_most": 50},
        "verdict": "allow",
    }
    turns = [use("mcp__bank__pay", amount=500), use("mcp__bank__pay", amount=5)], DONE
    with desk.open(rule), Script(*turns) as script:
        told = await desk.run(script, mcp_servers={"bank": desk.bank()}, tools=[])
    assert (len(told), told[1], desk.paid) == (2, "paid 5", [5])
    assert told[0].startswith("bank.pay is denied")
    assert sorted(desk.booked()) == [
        ("bank.pay", "allow"),
        ("bank.pay", "deny"),
        ("bank.pay", "returned"),
    ]


async def test_a_tool_of_another_process(desk: Any) -> None:
    """Broken if a server of the protocol in a process of its own is not governed like one of this."""
    server = desk.path / "bank.py"
    server.write_text(
        "from mcp.server.mcpserver import MCPServer\n"
        'server = MCPServer("bank")\n'
        "@server.tool()\n"
        "def pay(amount: int) -> str:\n"
        '    """Pay."""\n'
        '    return f"paid {amount}"\n'
        'server.run("stdio")\n',
        "utf-8",
    )
    rule = {
        "tools": ["bank.pay"],
        "when": {"argument": "amount", "at_most": 50},
        "verdict": "allow",
    }
    config = {"type": "stdio", "command": sys.executable, "args": [str(server)]}
    turns = (
        [use("ToolSearch", query="select:mcp__bank__pay")],
        [use("mcp__bank__pay", amount=500), use("mcp__bank__pay", amount=5)],
        DONE,
    )
    with desk.open(rule, {"tools": ["ToolSearch"], "verdict": "allow"}), Script(*turns) as script:
        told = await desk.run(script, mcp_servers={"bank": config}, tools=["ToolSearch"])
    assert told[-2].startswith("bank.pay is denied")
    assert "paid 5" in told[-1]


async def test_a_governed_function_is_judged_once(desk: Any) -> None:
    """Broken if a governed function behind a tool is judged again, or by less than it declares, or is not current."""
    seen: list[Any] = []

    @governed(resource="order_id", cost="amount", risk="high")
    def refund(order_id: str, amount: int) -> str:
        call = current_call()
        seen.append((call.tool.name, call.resource, call.cost) if call else None)
        return f"{amount} of {order_id} paid back"

    @sdk_tool("refund", "Pay back.", {"order_id": str, "amount": int})
    async def tool(arguments: dict[str, Any]) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": refund(**arguments)}]}

    rule = {"tools": ["refund"], "when": {"cost": {"at_most": 50}}, "verdict": "allow"}
    turns = [use("mcp__shop__refund", order_id="A-1", amount=20)], DONE
    with desk.open(rule), Script(*turns) as script:
        servers = {"shop": create_sdk_mcp_server("shop", tools=[tool])}
        told = await desk.run(script, mcp_servers=servers, governed={"tools": [refund]})
    assert told == ["20 of A-1 paid back"]
    assert seen == [("refund", "A-1", 20)]
    assert desk.booked() == [("refund", "allow"), ("refund", "returned")]


async def test_a_call_that_is_made_again(desk: Any) -> None:
    """Broken if a tool that declares what tells its calls apart runs twice, or the model is not given what it gave."""
    declared = Tool(name="bank.pay", idempotency_key=("amount",))
    turns = [[use("mcp__bank__pay", amount=amount)] for amount in (5, 5, 6)]
    with desk.open(default="allow"), Script(*turns, DONE) as script:
        told = await desk.run(
            script, mcp_servers={"bank": desk.bank()}, governed={"tools": [declared]}
        )
    assert desk.paid == [5, 6]
    assert told == [
        "paid 5",
        "bank.pay was not run again: this call was made before, and then it gave: paid 5",
        "paid 6",
    ]


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (create_sdk_mcp_server, "ToolFailed"),
        (interlock_claude_agent_sdk.create_sdk_mcp_server, "KeyError"),
    ],
    ids=["the SDK's server", "ours"],
)
async def test_errors_are_the_tools_own(desk: Any, make: Any, kind: str) -> None:
    """Broken if what the model reads of a failure is not what it reads ungoverned, or the books call it a success."""

    @sdk_tool("fail", "Fails.", {})
    async def fail(_: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("the bank is closed")

    async def yes(*_: Any) -> PermissionResultAllow:
        return PermissionResultAllow()

    servers = {"bank": make("bank", tools=[fail])}
    uses = [use("Bash", command="echo broken; exit 3", description="d"), use("mcp__bank__fail")]
    with desk.open(default="allow"), Script(uses, DONE) as script:
        told = await desk.run(script, mcp_servers=servers)
        plain = desk.options(script, mcp_servers=servers, can_use_tool=yes, setting_sources=[])
        [_ async for _ in claude_agent_sdk.query(prompt="go", options=plain)]
        assert script.told() == told
    assert told[0] == "Exit code 3\nbroken"
    assert "the bank is closed" in told[1]
    assert sorted(desk.booked()) == [
        ("Bash", "allow"),
        ("Bash", "raised", "ToolFailed"),
        ("bank.fail", "allow"),
        ("bank.fail", "raised", kind),
    ]


async def test_tools_that_run_at_once(desk: Any) -> None:
    """Broken if tool uses of one turn are taken for each other."""
    for name in "abc":
        (desk.work / name).write_text(f"this is {name}", "utf-8")
    uses = [use("Read", file_path=str(desk.work / name)) for name in "abc"]
    rule = {
        "tools": ["Read"],
        "when": {"argument": "file_path", "matches": ".*/[ac]"},
        "verdict": "allow",
    }
    with desk.open(rule), Script(uses, DONE) as script:
        told = await desk.run(script, tools=["Read"])
    shown = [name for name in "abc" if any(f"this is {name}" in one for one in told)]
    assert (len(told), shown) == (3, ["a", "c"])
    assert [one for one in desk.booked() if "deny" in one] == [("Read", "deny")]
    assert desk.booked().count(("Read", "returned")) == 2


async def test_what_the_host_declares(desk: Any) -> None:
    """Broken if a declaration of one of Claude Code's own tools is not what its calls are judged by."""
    rules = {"tools": ["*"], "when": {"risk": {"at_most": "low"}}, "verdict": "allow"}
    (desk.work / "plan").write_text("step one", "utf-8")
    uses = [use("Read", file_path=str(desk.work / "plan")), desk.touch("A")]
    declared = [Tool(name="Read", risk=Risk.LOW, resource="file_path")]
    with desk.open(rules), Script(uses, DONE) as script:
        told = await desk.run(script, tools=["Read", "Bash"], governed={"tools": declared})
    assert ("step one" in told[0], told[1].startswith("Bash is denied")) == (True, True)
    assert [event for event in desk.recorder.events if getattr(event, "resource", None)] != []


async def test_the_hosts_own_callback(desk: Any) -> None:
    """Broken if the host's callback is not asked, or what it makes of the arguments is not what is judged and run."""
    asked: list[str] = []

    async def own(name: str, given: dict[str, Any], _: Any) -> Any:
        asked.append(f"{name} {given.get('amount')}")
        if given["amount"] == 1:
            return PermissionResultDeny(message="the host says no")
        return PermissionResultAllow(updated_input={"amount": given["amount"] - 10})

    rule = {
        "tools": ["bank.pay"],
        "when": {"argument": "amount", "at_most": 50},
        "verdict": "allow",
    }
    uses = [use("mcp__bank__pay", amount=amount) for amount in (1, 55, 70)]
    with desk.open(rule), Script(uses, DONE) as script:
        told = await desk.run(script, mcp_servers={"bank": desk.bank()}, can_use_tool=own)
    assert sorted(asked) == ["mcp__bank__pay 1", "mcp__bank__pay 55", "mcp__bank__pay 70"]
    assert told[:2] == ["the host says no", "paid 45"]
    assert told[2].startswith("bank.pay is denied")
    assert desk.paid == [45]


async def test_what_the_host_has_allowed_already(desk: Any) -> None:
    """Broken if allowed_tools lets something run unjudged, or the host is asked about what it has allowed there."""
    asked: list[str] = []

    async def own(name: str, _: dict[str, Any], __: Any) -> Any:
        asked.append(name)
        return PermissionResultAllow()

    uses = [use("mcp__bank__pay", amount=5), desk.touch("A")]
    with desk.open({"tools": ["bank.pay"], "verdict": "allow"}), Script(uses, DONE) as script:
        told = await desk.run(
            script, mcp_servers={"bank": desk.bank()}, can_use_tool=own, allowed_tools=["Bash"]
        )
    assert (asked, desk.paid, desk.left) == (["mcp__bank__pay"], [5], [])
    assert told[1].startswith("Bash is denied")


@pytest.mark.promise(5)
async def test_the_hosts_hooks_are_kept_and_come_first(desk: Any) -> None:
    """Broken if a host's hook is lost, or can change the arguments after they were judged."""
    seen: list[str] = []

    async def rewrite(given: Any, _: Any, __: Any) -> Any:
        seen.append(given["hook_event_name"])
        changed = {"command": "touch B", "description": "d"}
        output = {
            "hookEventName": "PreToolUse",
            "permissionDecision": "allow",
            "updatedInput": changed,
        }
        return {"hookSpecificOutput": output}

    rule = {
        "tools": ["Bash"],
        "when": {"argument": "command", "contains": "touch A"},
        "verdict": "allow",
    }
    hooks = {"PreToolUse": [HookMatcher(hooks=[rewrite])]}
    with desk.open(rule), Script([desk.touch("A")], DONE) as script:
        told = await desk.run(script, hooks=hooks)
    assert (seen, desk.left) == (["PreToolUse"], [])
    assert told[0].startswith("Bash is denied")


@pytest.mark.parametrize("mode", ["acceptEdits", "plan"])
async def test_modes_let_nothing_through(desk: Any, mode: str) -> None:
    """Broken if a permission mode lets a tool run that was not judged."""
    uses = [use("Write", file_path=str(desk.work / "A"), content="x"), desk.touch("B")]
    with desk.open(), Script(uses, DONE) as script:
        told = await desk.run(script, tools=["Bash", "Write"], permission_mode=mode)
    assert desk.left == []
    assert [" is denied: " in one for one in told] == [True, True]


async def test_a_dry_run_runs_nothing(desk: Any) -> None:
    """Broken if in a dry run a tool runs, or a model is asked."""
    with desk.open(default="allow", dry_run=True), Script([desk.touch("A")], DONE) as script:
        await desk.run(script)
    assert (desk.left, script.requests) == ([], [])
    assert isinstance(desk.messages[-1], ResultMessage)
    assert "This is a dry run: chat was not run." in str(desk.messages[-1].result)


async def test_no_session(desk: Any) -> None:
    """Broken if a run begins outside of any session."""
    with Script([desk.touch("A")], DONE) as script, pytest.raises(NotConfigured):
        await desk.run(script)
    assert (desk.left, script.requests) == ([], [])


async def test_a_prompt_reads_no_files(desk: Any, tmp_path: Path) -> None:
    """Broken if what a prompt mentions is read into it without any tool use."""
    secret = tmp_path / "secret"
    secret.write_text("the hidden word", "utf-8")
    with desk.open(), Script(DONE) as script:
        await desk.run(script, prompt=f"look at @{secret}")
    assert "the hidden word" not in str(script.requests)
