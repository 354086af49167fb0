"""The README's code with coroutines: `async def` tools and `async with`, and every answer the same."""

import asyncio
from decimal import Decimal
from pathlib import Path

from interlock import Governor, Refused, governed

HERE = Path(__file__).parent


@governed(resource="order_id", cost="amount")
async def refund(order_id: str, amount: Decimal) -> str:
    """Give money back."""
    return f"refunded {amount} for {order_id}"


@governed(risk="high")
async def wire_money(iban: str, amount: Decimal) -> str:
    """Send money to a bank account."""
    return f"wired {amount} to {iban}"


async def main() -> None:
    """Work on one support ticket."""
    async with (
        Governor("sqlite:///interlock.db", policy=HERE / "quickstart.yaml") as governor,
        governor.session("ticket-4711", agent="support-bot", user="u-17"),
    ):
        print(await refund("o-1", Decimal(20)))
        for tool, target in (refund, "o-1"), (wire_money, "DE02"):
            try:
                await tool(target, Decimal(900))
            except Refused as refusal:
                print(refusal)


asyncio.run(main())
