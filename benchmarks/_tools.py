"""The tool that `governed.py` calls, in two forms, and the policy that lets it through; used by its processes, too."""

from __future__ import annotations

from interlock import governed

POLICY = {
    "version": 1,
    "name": "bench",
    "default": "deny",
    "rules": [
        {
            "id": "small",
            "tools": ["refund"],
            "when": {"argument": "amount", "at_most": 100},
            "verdict": "allow",
        }
    ],
}


@governed
def refund(order_id: str, amount: int) -> str:
    """Do as good as nothing."""
    return f"{order_id}: {amount}"


@governed(name="refund")
async def refund_async(order_id: str, amount: int) -> str:
    """Do as good as nothing."""
    return f"{order_id}: {amount}"
