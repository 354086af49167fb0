"""How the tests of `interlock policy …` run it: in this process, in a directory of their own."""

from __future__ import annotations

import json
from typing import Any

from click.testing import Result
from typer.testing import CliRunner

from interlock.cli import app

POLICY = """\
version: 1
name: support
rules:
  - id: small-refunds
    tools: [refund]
    when: {all: [{argument: amount, at_most: 50}, {risk: {at_most: medium}}]}
    verdict: allow
  - id: large-refunds
    tools: [refund]
    verdict: ask
    approvers: [payments-oncall]
  - id: exports
    tools: [export]
    when: {after: [refund]}
    verdict: deny
  - id: other-exports
    tools: [export]
    verdict: allow
evaluators:
  - use: list
    tools: [refund]
    with: {argument: order, allow: [o-1]}
budgets:
  - {name: per-run, per: session, calls: 20}
"""
EXPECT = """\
expect:
  - call: {tool: refund, arguments: {amount: 20, order: o-1}}
    verdict: allow
    rule: small-refunds
  - call: {tool: refund, arguments: {amount: 900, order: o-1}}
    verdict: ask
    rule: large-refunds
  - name: after a refund
    call: {tool: export}
    after: [{tool: refund, arguments: {amount: 900, order: o-1}}]
    verdict: deny
    rule: exports
  - call: {tool: export}
    verdict: allow
"""
HOSTILE = "\x1b[31m\u202eevil"
"""What would colour a terminal and turn its text around."""


def policy(*arguments: str, **environment: str) -> Result:
    """Run `interlock policy` with *arguments*."""
    env = {"COLUMNS": "200", **environment}
    result = CliRunner().invoke(app, ["policy", *arguments], env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def lines(result: Result) -> list[dict[str, Any]]:
    """Return the JSON objects that a command printed."""
    return [json.loads(line) for line in result.stdout.splitlines()]
