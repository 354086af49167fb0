"""Steering: a model is told where to go instead, a few times; and risk: after a sequence of calls a human is asked."""

from interlock import ApprovalNeeded, Denied, Governor, Steered, governed

POLICY = {
    "version": 1,
    "name": "treasury",
    "rules": [
        {
            "id": "no-wires",
            "tools": ["wire_money"],
            "verdict": "steer",
            "guidance": "Finance reviews payment requests.",
            "suggest": ["create_payment_request"],
            "retries": 2,
        },
        {"id": "rest", "tools": ["*"], "verdict": "allow"},
    ],
    "risk": {
        "sequences": [
            {
                "name": "pay-whom-you-made",
                "calls": ["create_payee", "create_payment_request"],
                "escalate_to": "critical",
            }
        ],
        "ask_at": "critical",
        "approvers": ["finance"],
    },
}


@governed
def wire_money(to: str, amount: int) -> str:
    """Send money at once."""
    return f"wired {amount} to {to}"


@governed
def create_payee(name: str) -> str:
    """Add somebody who can be paid."""
    return f"{name} can be paid"


@governed
def create_payment_request(to: str, amount: int) -> str:
    """Ask finance to pay."""
    return f"requested {amount} for {to}"


with (
    Governor("sqlite://", policy=POLICY) as governor,
    governor.session("invoice-7", agent="treasury-bot"),
):
    for _ in range(3):
        try:
            print(wire_money("ann", 900))
        except Steered as steered:
            print(f"steered to {', '.join(steered.suggestions)}: {steered.guidance}")
        except Denied as denied:
            print(f"denied: {denied.decision.reason}")
    print(create_payment_request("ann", 900))
    print(create_payee("eve"))
    try:
        print(create_payment_request("eve", 900))
    except ApprovalNeeded as needed:
        print(f"{' or '.join(needed.ticket.approvers)} must say yes: {needed.decision.reason}")
