"""Captured: what is recorded of arguments and results, at each level of capture."""

from __future__ import annotations

from typing import Any

import msgspec

from interlock import _canonical, _redaction, _total
from interlock._call import Call
from interlock._capture import Capture, Capturing, Seal
from interlock._redaction import Redact

_SECRET = {"$secret": True}


def captured(call: Call, capturing: Capturing, redact: Redact | None) -> Call:
    """
    Return *call* as it is to be recorded.

    What runs, what is judged and the call's digest stay as they are, and so do its resource, its cost and its model,
    by which budgets, leases and grants go.
    """
    level = call.tool.capture or capturing.arguments
    if level is Capture.REDACTED:
        return call if redact is None else _redaction.redacted(call, redact)
    if level is Capture.FULL:
        return msgspec.structs.replace(call, capture=level)
    left = call if redact is None else _redaction.redacted(call, redact)  # its resource, too
    data: dict[str, Any] = msgspec.json.decode(call.recorded)
    pairs = data.get("$map")
    if pairs is not None:
        data = {"$map": [[name, _left(item, level, capturing.seal)] for name, item in pairs]}
    else:
        data = {name: _left(item, level, capturing.seal) for name, item in data.items()}
    return msgspec.structs.replace(left, recorded=_canonical.encode(data).decode(), capture=level)


def result_of(
    call: Call, result: object, capturing: Capturing, redact: Redact | None
) -> str | None:
    """
    Return what is recorded of the *result* of *call*, as canonical JSON of at most 64 KB; None: nothing is.

    What stands in it under the name of a declared secret is masked, at any depth.
    """
    level = call.tool.capture_result or capturing.results
    if not level.shows:
        return None
    tree = _total.total(result, secrets=call.tool.secrets)
    if redact is not None and level is Capture.REDACTED:
        tree = _redaction.redacted_data(call.tool.name, tree, redact)
    return _total.written(tree)


def result_seal(call: Call, capturing: Capturing) -> Seal | None:
    """Return what makes the digest of the result of *call*; None: it gets none."""
    level = call.tool.capture_result or capturing.results
    return None if level is Capture.NONE else capturing.seal


def _left(data: Any, level: Capture, seal: Seal) -> Any:
    if level is Capture.NONE or data == _SECRET:
        return _SECRET
    return {"$digest": seal(_canonical.encode(data))}
