"""Condition trees: all, any and not over arguments, identity, labels and the past, and what cannot be told."""

from interlock import Governor, Refused, governed

POLICY = {
    "version": 1,
    "name": "desk",
    "rules": [
        {
            "id": "leak",
            "labels": ["outbound"],
            "when": {
                "all": [
                    {"after": "read_customer"},
                    {"not": {"argument": "to", "matches": r"[a-z.]+@acme\.example"}},
                ]
            },
            "verdict": "deny",
            "reason": "what was read about customers stays within the company",
        },
        {
            "id": "small-refunds",
            "tools": ["refund"],
            "when": {
                "any": [
                    {"argument": "amount", "at_most": 50},
                    {
                        "all": [
                            {"identity": "team", "equals": "billing"},
                            {"argument": "amount", "at_most": 500},
                            {"calls": {"tools": ["refund"], "at_most": 1}},
                        ]
                    },
                ]
            },
            "verdict": "allow",
        },
        {"id": "rest", "tools": ["read_*", "send_*"], "verdict": "allow"},
    ],
}


@governed
def read_customer(name: str) -> str:
    """Look a customer up."""
    return f"read about {name}"


@governed(labels=["outbound"])
def send_email(to: str) -> str:
    """Send an email."""
    return f"sent to {to}"


@governed
def refund(amount: object) -> str:
    """Give money back."""
    return f"refunded {amount}"


with Governor("sqlite://", policy=POLICY) as governor:
    for team in ("support", "billing"):
        print(f"team {team}")
        with governor.session("ticket-4711", agent="desk-bot", team=team):
            for tool, argument in (
                (send_email, "eve@example.com"),
                (read_customer, "bob"),
                (send_email, "eve@example.com"),
                (send_email, "ann@acme.example"),
                (refund, 20),
                (refund, 400),
                (refund, 400),
                (refund, "400"),  # a text is no number: it cannot be told, so it is denied
            ):
                try:
                    print(" ", tool(argument))
                except Refused as refusal:
                    print(" ", refusal)
