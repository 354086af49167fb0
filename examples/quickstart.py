"""The README's code: one call is allowed, one has to be approved by a person, one is steered elsewhere."""

from decimal import Decimal
from pathlib import Path

from interlock import Governor, Refused, governed

HERE = Path(__file__).parent


@governed(resource="order_id", cost="amount")
def refund(order_id: str, amount: Decimal) -> str:
    """Give money back."""
    return f"refunded {amount} for {order_id}"


@governed(risk="high")
def wire_money(iban: str, amount: Decimal) -> str:
    """Send money to a bank account."""
    return f"wired {amount} to {iban}"


with (
    Governor("sqlite:///interlock.db", policy=HERE / "quickstart.yaml") as governor,
    governor.session("ticket-4711", agent="support-bot", user="u-17"),
):
    print(refund("o-1", Decimal(20)))
    for tool, target in (refund, "o-1"), (wire_money, "DE02"):
        try:
            tool(target, Decimal(900))
        except Refused as refusal:
            print(refusal)
