"""Examples of calls and results, as the author of an evaluator writes them down for its suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from immutabledict import immutabledict

from interlock._verdict import Verdict

NOTHING: Mapping[str, Any] = immutabledict()


class Example(msgspec.Struct, frozen=True):
    """
    A call that is judged, for `EvaluatorSuite.allowed` and `refused`.

    Attributes:
        arguments: By name.
        tool: Options of `@governed`, such as `{"capabilities": ["read"]}`.
        verdict: What the evaluator has to say of it; not looked at in `allowed`.
    """

    arguments: Mapping[str, Any]
    tool: Mapping[str, Any] = NOTHING
    verdict: Verdict = Verdict.DENY


class Result(msgspec.Struct, frozen=True):
    """
    What a call returned and its caller is to get, for `EvaluatorSuite.results`; by default that very object.

    Attributes:
        returned: What the tool returns.
        given: What the caller is given instead, compared by `==`.
        withheld: Whether the caller is given nothing but a refusal; `given` is then not looked at.
        arguments: Those of the call, by name.
        tool: Options of `@governed`.
    """

    returned: Any
    given: Any = msgspec.UNSET
    withheld: bool = False
    arguments: Mapping[str, Any] = NOTHING
    tool: Mapping[str, Any] = NOTHING
