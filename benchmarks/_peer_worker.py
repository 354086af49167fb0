"""
One peer, deciding: run by the Python of a virtual environment that has the peer, and driven by lines of JSON.

The first argument is the peer's name. Each line read is a request, and each line written its answer: `{"load": N}`
makes the peer ready with N rules, checks what it answers, and `{"measure": N, "seconds": S}` lets it decide for about
so long. Rule i of N denies the tool `tool_i` when its argument `path` is below `/etc/`; what no rule denies is allowed.
Nothing of Interlock is imported here, and of the peers only the one that is asked for.
"""

# ruff: noqa: PLC0415 - each environment has one of them
from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from itertools import cycle
from tempfile import NamedTemporaryFile

CALLS = 64

Decide = Callable[[str, str], bool]
"""Whether a call of a tool with a path is allowed."""


def cedarpy(rules: int) -> Decide:
    """Cedar: one `forbid` for each rule, parsed once."""
    from cedarpy import Decision, Entities, PolicySet, is_authorized

    text = "permit(principal, action, resource);" + "".join(
        f'forbid(principal, action == Action::"tool_{n}", resource) when {{ context.path like "/etc/*" }};'
        for n in range(rules)
    )
    policies, entities = PolicySet.from_str(text), Entities.from_json_str("[]")

    def decide(tool: str, path: str) -> bool:
        request = {
            "principal": 'Agent::"bench"',
            "action": f'Action::"{tool}"',
            "resource": 'Host::"here"',
            "context": {"path": path},
        }
        return is_authorized(request, policies, entities).decision is Decision.Allow

    return decide


def _casbin(kind: str, rules: int, **options: object) -> Decide:
    import casbin

    with NamedTemporaryFile("w", suffix=".conf") as model:
        model.write(
            "[request_definition]\nr = tool, path\n[policy_definition]\np = tool, path, eft\n"
            "[policy_effect]\ne = !some(where (p.eft == deny))\n"
            "[matchers]\nm = r.tool == p.tool && keyMatch(r.path, p.path)\n"
        )
        model.flush()
        enforcer = getattr(casbin, kind)(model.name, **options)
    enforcer.add_policies([[f"tool_{n}", "/etc/*", "deny"] for n in range(rules)])
    decide: Decide = enforcer.enforce
    return decide


def pycasbin(rules: int) -> Decide:
    """pycasbin: a policy line for each rule, the path compared by `keyMatch`."""
    return _casbin("Enforcer", rules)


def pycasbin_fast(rules: int) -> Decide:
    """FastEnforcer of pycasbin, which keeps an index by the tool."""
    return _casbin("FastEnforcer", rules, cache_key_order=[0])


def rego_cpp(rules: int) -> Decide:
    """Rego on rego-cpp: one rule for each, compiled to a bundle once."""
    from regopy import Interpreter

    interpreter = Interpreter()
    body = "".join(
        f'deny if {{ input.tool == "tool_{n}"; startswith(input.path, "/etc/") }}\n'
        for n in range(rules)
    )
    interpreter.add_module("bench", f"package bench\nimport rego.v1\ndefault deny := false\n{body}")
    bundle = interpreter.build("data.bench.deny")

    def decide(tool: str, path: str) -> bool:
        interpreter.set_input({"tool": tool, "path": path})
        output = interpreter.query_bundle(bundle)
        return list(output.results[0].expressions) != [True]

    return decide


def _top(path: str) -> str:
    return path.split("/")[1]


def agent_os(rules: int) -> Decide:
    """agent-os: a rule has one comparison, so the host joins tool and top directory to one field."""
    from agent_os.policies import PolicyDocument, PolicyEvaluator
    from agent_os.policies.schema import PolicyAction, PolicyCondition, PolicyOperator, PolicyRule

    document = PolicyDocument(
        name="many",
        rules=[
            PolicyRule(
                name=f"rule-{n}",
                condition=PolicyCondition(
                    field="call", operator=PolicyOperator.EQ, value=f"tool_{n} etc"
                ),
                action=PolicyAction.DENY,
            )
            for n in range(rules)
        ],
    )
    evaluator = PolicyEvaluator([document])
    return lambda tool, path: bool(evaluator.evaluate({"call": f"{tool} {_top(path)}"}).allowed)


def agentmesh(rules: int) -> Decide:
    """agentmesh: its conditions know no prefix, so the host gives the top directory."""
    from agentmesh.governance import PolicyEngine
    from agentmesh.governance.policy import Policy, PolicyRule

    engine = PolicyEngine()
    engine.load_policy(
        Policy(
            name="many",
            agents=["*"],
            default_action="allow",
            rules=[
                PolicyRule(name=f"rule-{n}", condition=f"tool == 'tool_{n}' and top == 'etc'")
                for n in range(rules)
            ],
        )
    )
    return lambda tool, path: bool(
        engine.evaluate("did:bench", {"tool": tool, "top": _top(path)}).allowed
    )


PEERS = {
    "cedarpy": cedarpy,
    "pycasbin": pycasbin,
    "pycasbin fast": pycasbin_fast,
    "rego-cpp": rego_cpp,
    "agent-os": agent_os,
    "agentmesh": agentmesh,
}


def calls(rules: int) -> list[tuple[str, str]]:
    """Return calls of tools spread over the rules, every other one to be denied, always in the same order."""
    spread = [
        (f"tool_{n * rules // CALLS}", "/etc/passwd" if n % 2 else "/srv/data")
        for n in range(CALLS)
    ]
    random.Random(0).shuffle(spread)
    return spread


class Loaded:
    """A peer with its rules, its answers checked."""

    def __init__(self, peer: str, rules: int) -> None:
        self._decide = PEERS[peer](rules)
        spread = calls(rules)
        for tool, path in [*spread[:8], ("unheard_of", "/etc/passwd")]:
            wanted = tool == "unheard_of" or not path.startswith("/etc/")
            if self._decide(tool, path) is not wanted:
                raise AssertionError(f"{peer} says otherwise of {tool}({path!r})")
        self._calls = cycle(spread)

    def measure(self, seconds: float) -> dict[str, float]:
        """Decide about one call after the other for about *seconds*; go on where the last turn stopped."""
        decide, clock = self._decide, time.perf_counter
        times: list[float] = []
        begun = last = clock()
        while last - begun < seconds:
            tool, path = next(self._calls)
            decide(tool, path)
            now = clock()
            times.append(now - last)
            last = now
        return {"typical_s": statistics.median(times), "rate": len(times) / (last - begun)}


def main() -> None:
    """Answer requests until there are no more."""
    peer = sys.argv[1]
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a peer prints is no answer
    loaded: dict[int, Loaded] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "load" in request:
                loaded[request["load"]] = Loaded(peer, request["load"])
                answer: object = {"ok": True}
            else:
                answer = loaded[request["measure"]].measure(request["seconds"])
        except Exception as error:  # noqa: BLE001 - it is said, and the run goes on
            answer = {"error": f"{type(error).__name__}: {error}"[:200]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
