"""A FastAPI host that shares its transaction: its own rows, usage and a human's yes are one commit, or none."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request
from sqlalchemy import MetaData, Text, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from interlock import ApprovalNeeded, Governor, Identity, Refused, governed
from interlock.errors import Conflict
from interlock.store import tickets, usage
from interlock.store.tables import Tables

PREFIX = "interlock_"
POLICY = {
    "version": 1,
    "name": "shop",
    "default": "deny",
    "rules": [{"id": "refunds", "tools": ["refund"], "verdict": "ask", "approvers": ["shop"]}],
}


class Base(DeclarativeBase):
    """The host's tables, and Interlock's beside them: the host's migrations own all of them."""

    metadata = MetaData()


Tables(Base.metadata, prefix=PREFIX)


class Audit(Base):
    """What the shop itself writes down of an approval: each order once."""

    __tablename__ = "audit"

    order: Mapped[str] = mapped_column(Text, primary_key=True)
    clerk: Mapped[str] = mapped_column(Text)


@governed(resource="order")
def refund(order: str, amount: int) -> str:
    """Give money back."""
    return f"refunded {amount} for {order}"


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    """Open the governor and the host's own connections to the same database, and close both."""
    engine = create_engine(app.state.url)
    Base.metadata.create_all(engine)  # in production `alembic upgrade head`
    with Governor(
        app.state.url, policy=POLICY, metadata=Base.metadata, table_prefix=PREFIX
    ) as governor:
        app.state.governor, app.state.sessions = governor, sessionmaker(engine)
        yield
    engine.dispose()


app = FastAPI(lifespan=life)


def governor_of(request: Request) -> Governor:
    """Return the one governor of this process."""
    found: Governor = request.app.state.governor
    return found


def transaction_of(request: Request) -> Iterator[Session]:
    """Give a request its transaction: committed when it ends well, rolled back when it does not."""
    with request.app.state.sessions.begin() as session:
        yield session


Books = Annotated[Governor, Depends(governor_of)]
# Until the end of the function, not of the answer: who is told of a commit can rely on it.
Transaction = Annotated[Session, Depends(transaction_of, scope="function")]


@app.post("/refunds/{order}")
def ask_for_refund(order: str, amount: int, governor: Books) -> dict[str, str]:
    """Have the agent refund an order; a human has to say yes first."""
    try:
        with governor.session(f"order {order}", agent="shop-bot", org="shop"):
            return {"done": refund(order, amount)}
    except ApprovalNeeded as asked:  # which has left the session paused
        return {"ticket": asked.ticket.id}
    except Refused as refusal:
        raise HTTPException(403, str(refusal)) from None


@app.post("/tickets/{ticket}/approve")
def approve(
    ticket: str, order: str, clerk: str, governor: Books, transaction: Transaction
) -> dict[str, str]:
    """Write the shop's row, what the check by a model took, and the yes, all in the request's transaction."""
    try:
        governor.join(transaction, tickets.approve, ticket, by=clerk)
    except Conflict as error:
        raise HTTPException(409, str(error)) from None
    governor.record_usage(
        model="gpt-5-mini",
        input_tokens=700,
        output_tokens=20,
        identity=Identity(agent="fraud-check", org="shop"),
        within=transaction,
    )
    if transaction.get(Audit, order) is not None:
        raise HTTPException(409, f"{order} was refunded before")  # and nothing of the above is kept
    transaction.add(Audit(order=order, clerk=clerk))
    return {"approved": ticket}


def books(governor: Governor) -> str:
    """Say what is durable on either side."""
    waiting = len(governor.read(tickets.pending))
    calls = sum(one.calls for one in governor.read(usage.summary))
    rows = governor.read(lambda connection: connection.execute(select(Audit.order)).all())
    return f"pending tickets {waiting}, model calls {calls}, audit rows {len(rows)}"


async def main() -> None:
    """Ask for two refunds of one order; the second yes is rolled back with the row that cannot be written."""
    with tempfile.TemporaryDirectory() as directory:
        app.state.url = f"sqlite:///{Path(directory) / 'shop.db'}"
        async with life(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
                for amount in (40, 60):
                    asked = await client.post("/refunds/o-1", params={"amount": amount})
                    path = f"/tickets/{asked.json()['ticket']}/approve"
                    said = await client.post(path, params={"order": "o-1", "clerk": "ann"})
                    print(said.status_code, said.json().get("detail", "approved"))
                    print("  " + books(app.state.governor))


if __name__ == "__main__":
    asyncio.run(main())
