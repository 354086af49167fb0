"""
What a decision costs, and how that grows with the number of rules: `Policy.opinion`, without store or tool.

Rule i of N denies `tool_i` when its argument `path` starts with `/etc/`; the default allows. A hit is one of 64 calls
of tools spread over the rules, half of them denied; a miss is a call of a tool that no rule names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from _harness import Options, Sample, interleaved, show

from interlock import Call, Identity, Policy, Tool, Verdict
from interlock._call import describe

SIZES = (1, 10, 100, 1_000, 10_000)
CALLS = 64


def policy(rules: int) -> Policy:
    """Return a policy of so many rules."""
    return Policy.build(
        {
            "version": 1,
            "name": "many",
            "default": "allow",
            "rules": [
                {
                    "id": f"rule-{number}",
                    "tools": [f"tool_{number}"],
                    "when": {"argument": "path", "starts_with": "/etc/"},
                    "verdict": "deny",
                }
                for number in range(rules)
            ],
        }
    )


def call(tool: str, path: str) -> Call:
    """Return a call of *tool*."""
    described, _ = describe(
        Tool(name=tool),
        {"path": path},
        call_id="01900000-0000-7000-8000-000000000000",
        session_id="01900000-0000-7000-8000-000000000001",
        identity=Identity(agent="bench"),
    )
    return described


def hits(rules: int) -> list[Call]:
    """Return calls of tools spread over the rules, every other one to be denied."""
    return [
        call(f"tool_{number * rules // CALLS}", "/etc/passwd" if number % 2 else "/srv/data")
        for number in range(CALLS)
    ]


def checked(judge: Policy, calls: Sequence[Call], denied: int) -> Callable[[float], Sample]:
    """Return the cell that asks *judge* about *calls*, of which it has to deny so many."""
    said = [judge.opinion(each).verdict for each in calls]
    assert said.count(Verdict.DENY) == denied

    def cell(seconds: float) -> Sample:
        opinion, clock = judge.opinion, time.perf_counter
        times: list[float] = []
        begun = now = clock()
        while now - begun < seconds:
            for each in calls:
                opinion(each)
            last, now = now, clock()
            times.append((now - last) / len(calls))
        return Sample(times, (now - begun) / len(calls))

    return cell


def main() -> None:
    """Measure and show."""
    options = Options(__doc__)
    policies = {size: policy(size) for size in SIZES}
    miss = [call("unheard_of", "/etc/passwd")] * CALLS
    cells = {
        **{f"hit, {n} rules": checked(judge, hits(n), CALLS // 2) for n, judge in policies.items()},
        **{f"miss, {n} rules": checked(judge, miss, 0) for n, judge in policies.items()},
    }
    results = interleaved(options, cells)
    ratios = {
        f"ours.{prefix}10000_over_{n}": results[f"{kind}, 10000 rules"].typical_s
        / results[f"{kind}, {n} rules"].typical_s
        for kind, prefix in (("hit", ""), ("miss", "miss_"))
        for n in (1, 10)
    }
    show(
        options,
        title="A decision by policy alone",
        method=str(__doc__).strip(),
        results=results,
        ratios=ratios,
        meanings=dict.fromkeys(
            ratios, "time of a decision under 10,000 rules over that under few; 1 is flat"
        ),
    )


if __name__ == "__main__":
    main()
