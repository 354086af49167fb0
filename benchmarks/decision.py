"""
What a decision costs, how that grows with the number of rules, and what it costs others: no store, no tool, no disk.

Rule i of N denies, and the default allows. By kind: `exact` names `tool_i`; `glob` names `tool_i_*`; `argument` names
`tool_i` and wants its argument `path` to start with `/etc/`; of `same tool` every rule names `read` and wants its
`path` to start with `/data/i/`, so that all N are candidates for every call. A hit is one of 64 calls spread over the
rules, half of them denied (of `exact` and `glob` all); a miss is a call of a tool that no rule names.

Ours is `Policy.opinion` of a call that is described: a verdict with its reason, author and rule. `described` is the
same with `describe` before it: arguments copied, frozen, written canonically and digested, as no peer does. The peers
have the `argument` rules, parsed once, and answer yes or no:

- cedarpy, parsed policies; reads the request as JSON at each call; names the policies that decided
- pycasbin, a policy line for each rule; its FastEnforcer has an index by the tool
- rego-cpp, compiled to a bundle; reads the input as JSON at each call
- agent-os, one equality for each rule, of a field in which the host joined tool and top directory; no prefixes
- agentmesh, two equalities for each rule, the top directory given by the host; no prefixes

Each peer is in an environment of its own, installed once by pip, and measures itself; turns are taken with ours.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from _harness import Cell, Options, Result, Sample, interleaved, show
from _peers import REQUIREMENTS, loaded

from interlock import Call, Identity, Policy, Tool, Verdict
from interlock._call import describe

Results: TypeAlias = Mapping[tuple[str, int], Result]
Ratios: TypeAlias = Iterator[tuple[str, float, str]]
"""Names, values, and what they say."""

SIZES = (1, 10, 100, 1_000, 10_000)
CALLS = 64
BELOW_ETC = {"argument": "path", "starts_with": "/etc/"}
IDENTITY = Identity(agent="bench")


def rules(kind: str, size: int) -> Iterator[dict[str, Any]]:
    """Yield so many rules of a kind."""
    for number in range(size):
        rule: dict[str, Any] = {"id": f"rule-{number}", "verdict": "deny"}
        match kind:
            case "exact":
                yield {**rule, "tools": [f"tool_{number}"]}
            case "glob":
                yield {**rule, "tools": [f"tool_{number}_*"]}
            case "argument":
                yield {**rule, "tools": [f"tool_{number}"], "when": BELOW_ETC}
            case "same tool":
                own = {"argument": "path", "starts_with": f"/data/{number}/"}
                yield {**rule, "tools": ["read"], "when": own}


def policy(kind: str, size: int) -> Policy:
    """Return a policy of so many rules of a kind."""
    document = {"version": 1, "name": "many", "default": "allow"}
    return Policy.build({**document, "rules": list(rules(kind, size))})


def requests(kind: str, size: int) -> list[tuple[Tool, dict[str, object], bool]]:
    """Return calls spread over the rules: the tool, its arguments, whether they have to be denied."""
    found = []
    for number in range(CALLS):
        rule, odd = number * size // CALLS, bool(number % 2)
        match kind:
            case "exact":
                name, path, denied = f"tool_{rule}", "/srv/data", True
            case "glob":
                name, path, denied = f"tool_{rule}_x", "/srv/data", True
            case "argument":
                name, path, denied = f"tool_{rule}", "/etc/passwd" if odd else "/srv/data", odd
            case _:
                name, path, denied = "read", f"/data/{rule}/x" if odd else "/srv/data", odd
        found.append((Tool(name=name), {"path": path}, denied))
    return found


def described(tool: Tool, arguments: Mapping[str, object]) -> Call:
    """Return a call of *tool*."""
    return describe(
        tool,
        arguments,
        call_id="01900000-0000-7000-8000-000000000000",
        session_id="01900000-0000-7000-8000-000000000001",
        identity=IDENTITY,
    )[0]


def turned(each: Callable[[Any], object], subjects: Sequence[Any]) -> Cell:
    """Return the cell that does *each* to all of *subjects* in turn; a time is that of one, averaged over all."""

    def cell(seconds: float) -> Sample:
        clock = time.perf_counter
        times: list[float] = []
        begun = now = clock()
        while now - begun < seconds:
            for subject in subjects:
                each(subject)
            last, now = now, clock()
            times.append((now - last) / len(subjects))
        return Sample(times, (now - begun) / len(subjects))

    return cell


def ours() -> dict[tuple[str, int], Cell]:
    """Return our cells, their answers checked."""
    cells: dict[tuple[str, int], Cell] = {}
    for kind in ("exact", "glob", "argument", "same tool"):
        for size in SIZES:
            judge = policy(kind, size)
            asked = requests(kind, size)
            calls = [described(tool, arguments) for tool, arguments, _ in asked]
            for call, (_, _, denied) in zip(calls, asked, strict=True):
                assert (judge.opinion(call).verdict is Verdict.DENY) is denied
            cells[kind, size] = turned(judge.opinion, calls)
            if kind == "same tool":
                continue
            missed = described(Tool(name="unheard_of"), {"path": "/etc/passwd"})
            assert judge.opinion(missed).verdict is Verdict.ALLOW
            cells[f"{kind}, miss", size] = turned(judge.opinion, [missed] * CALLS)
            if kind == "argument":
                cells["described", size] = turned(_whole(judge), asked)
    return cells


def _whole(judge: Policy) -> Callable[[tuple[Tool, dict[str, object], bool]], object]:
    return lambda request: judge.opinion(described(request[0], request[1]))


def growth(results: Results) -> Ratios:
    """Yield how our cost grows with the rules, of each kind; that of argument rules has the short names, too."""
    for kind in dict.fromkeys(kind for kind, _ in results if kind not in REQUIREMENTS):
        for few in (1, 10):
            ratio = results[kind, SIZES[-1]].typical_s / results[kind, few].typical_s
            ending = f"{SIZES[-1]}_over_{few}"
            said = f"{kind}: time of a decision under 10,000 rules over that under {few}; 1 is flat"
            yield f"ours.{kind.replace(', ', '_').replace(' ', '_')}.{ending}", ratio, said
            if kind == "argument":
                yield f"ours.{ending}", ratio, said


def fastest(results: Results, own: str, key: str) -> Ratios:
    """Yield, for each size and as the least of all, the time of the fastest peer over *own*."""
    found: list[float] = []
    for size in SIZES:
        there = [results[name, size].typical_s for name in REQUIREMENTS if (name, size) in results]
        if there:
            found.append(min(there) / results[own, size].typical_s)
            said = f"{size:,} rules: time of the fastest peer over ours, {own}"
            yield f"{key}.{size}", found[-1], said
    if found:
        yield key, min(found), "the least of these"


def each_peer(results: Results) -> Ratios:
    """Yield the time of each peer over ours, by size."""
    for (name, size), result in results.items():
        if name in REQUIREMENTS:
            ratio = result.typical_s / results["argument", size].typical_s
            said = f"{size:,} rules: time of {name} over ours"
            yield f"{name.replace(' ', '_')}_over_ours.{size}", ratio, said


def main() -> None:
    """Measure and show."""
    options = Options(__doc__)
    options.seconds = 0.05 if options.quick else 0.3
    with loaded(SIZES, within_s=3 if options.quick else 30) as (peers, missing):
        cells = ours() | peers
        named = {f"{name}, {size:,} rules": cell for (name, size), cell in cells.items()}
        measured = interleaved(options, named)
    results = dict(zip(cells, measured.values(), strict=True))
    for sentence in missing:
        sys.stderr.write(f"not measured: {sentence}\n")
    told = [
        *growth(results),
        *fastest(results, "argument", "fastest_peer_over_ours"),
        *fastest(results, "described", "fastest_peer_over_ours_described"),
        *each_peer(results),
    ]
    show(
        options,
        title="A decision by policy alone",
        method=str(__doc__).strip(),
        results=measured,
        ratios={key: ratio for key, ratio, _ in told},
        meanings={key: said for key, _, said in told},
    )


if __name__ == "__main__":
    main()
