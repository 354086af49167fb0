"""
agent-control-plane's gateway, making calls: run by the Python of a virtual environment that has it.

The second argument is a directory for an SQLite file. Each line read, `{"callers": N, "seconds": S}`, makes N threads
call for about so long, and is answered by a line with how long a call took typically and how many there were in a
second. One caller uses no thread of its own. Nothing of Interlock is imported here.
"""

# ruff: noqa: PLC0415 - what is missing is told, not raised
from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from decimal import Decimal


def gateway(directory: str) -> Callable[[], object]:
    """Return what makes one call through a gateway with its own store, budget and policy."""
    from agent_control_plane.mcp import (
        McpGateway,
        McpGatewayConfig,
        ToolCallContext,
        ToolCallResult,
        ToolPolicyMap,
    )
    from agent_control_plane.sync import SyncControlPlane
    from agent_control_plane.types.enums import ActionName
    from agent_control_plane.types.policies import ActionTiers, PolicySnapshot

    class Executor:
        def execute(self, context: ToolCallContext) -> ToolCallResult:
            return ToolCallResult(ok=True, output={"tool": context.tool_name})

    plane = SyncControlPlane(f"sqlite:///{directory}/seed.db")
    plane.setup()
    made = McpGateway(
        plane,
        Executor(),
        ToolPolicyMap({"status": ActionName.STATUS}),
        config=McpGatewayConfig(
            policy_snapshot=PolicySnapshot(
                action_tiers=ActionTiers(auto_approve=[ActionName.STATUS])
            )
        ),
    )
    session = plane.create_session(
        "bench", max_cost=Decimal(10) ** 9, max_action_count=1_000_000_000
    )

    def once() -> object:
        return made.handle_tool_call(
            ToolCallContext(
                tool_name="status", session_id=session, arguments={"order_id": "o-1", "amount": 20}
            )
        )

    return once


def measure(once: Callable[[], object], callers: int, seconds: float) -> dict[str, float]:
    """Call for about *seconds* from each of *callers*."""
    taken: list[float] = []
    failed: list[Exception] = []

    def body() -> None:
        begun = last = time.perf_counter()
        while not taken or last - begun < seconds:
            try:
                once()
            except Exception as error:  # noqa: BLE001 - told below
                failed.append(error)
                return
            now = time.perf_counter()
            taken.append(now - last)
            last = now

    begun = time.perf_counter()
    if callers == 1:
        body()
    else:
        threads = [threading.Thread(target=body) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    elapsed = time.perf_counter() - begun
    if failed:
        raise failed[0]
    return {"typical_s": statistics.median(taken), "rate": len(taken) / elapsed}


def main() -> None:
    """Answer requests until there are no more."""
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever it prints is no answer
    once: Callable[[], object] | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            once = once or gateway(sys.argv[2])
            answer: object = measure(once, request["callers"], request["seconds"])
        except Exception as error:  # noqa: BLE001 - it is said, and the run goes on
            answer = {"error": f"{type(error).__name__}: {error}"[:200]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
