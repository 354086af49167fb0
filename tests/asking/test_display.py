"""What an approver sees: exactly what will run, and nothing that acts, hides, or passes for something else."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from interlock import ApprovalNeeded, Governor, Ticket, governed
from interlock._canonical import encode
from interlock._canonical import tree as tree_of
from interlock._display import arguments, panel, shown
from interlock._ticket import Approval, TicketState
from interlock.cli import app
from interlock.store import tickets
from interlock.store.briefs import brief
from tests import unicode_tricks as tricks
from tests.samples import NOW, call_of, ticket_for

Make = Callable[..., Governor]

POLICY: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "rules": [
        {"id": "looks", "tools": ["look"], "verdict": "allow"},
        {
            "id": "refunds",
            "tools": ["refund"],
            "verdict": "ask",
            "approvers": ["ops"],
            "quorum": 2,
            "reason": "money leaves",
        },
    ],
    "budgets": [{"name": "run", "per": "session", "cost_usd": 15, "calls": 20}],
}
BAD = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@governed
def look(order: str) -> str:
    """Look an order up."""
    return order


@governed(secrets=["card"], cost="amount", resource="order", risk="high")
def refund(order: str, amount: int, card: str = "4111-planted") -> str:
    """Pay money back."""
    return order


@pytest.mark.promise(5, 9)
@given(st.text())
def test_nothing_that_is_shown_acts_or_hides(text: str) -> None:
    """Broken if any text could move the cursor, break a line, turn the reading direction, or be there unseen."""
    seen = shown(text)
    assert [c for c in seen if unicodedata.category(c) in BAD] == []
    assert [c for c in seen if unicodedata.category(c) == "Zs" and c != " "] == []
    assert text.isascii() is False or not text.isprintable() or seen == text


@pytest.mark.promise(5)
def test_every_invisible_character_is_shown_as_such() -> None:
    """Broken if one of the characters that show nothing stays one."""
    for character in [
        *tricks.INVISIBLE,
        *map(chr, range(0x20)),
        "\x7f",
        "\u2028",
        "\u00a0",
        "\u3000",
    ]:
        seen = shown(f"a{character}b")
        assert (len(seen) > 3, seen[:2], seen[-1:]) == (True, "a\\", "b"), hex(ord(character))


@pytest.mark.promise(5)
@pytest.mark.parametrize("name", tricks.NAMES)
def test_a_look_alike_is_not_shown_as_what_it_looks_like(name: str) -> None:
    """Broken if a name in which letters were replaced by look-alikes of another script is shown as if it were."""
    twins = dict(
        zip(
            "aceopxyijs",
            "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456\u0458\u0455",
            strict=True,
        )
    )
    one_by_one = [name.replace(letter, twin, 1) for letter, twin in twins.items() if letter in name]
    wide = "".join(chr(ord(c) + 0xFEE0) for c in name)
    bold = "".join(chr(0x1D41A + ord(c) - 97) if c.islower() and c.isascii() else c for c in name)
    for spelling in [*one_by_one, "".join(twins.get(c, c) for c in name), wide, bold]:
        assert spelling != name
        assert shown(spelling) != spelling
        assert shown(spelling).isascii() or any(part in shown(spelling) for part in ("\\u", "\\U"))


@pytest.mark.parametrize(
    "text",
    [
        "Ünïcödé straße",
        "Привет мир",
        "日本語テスト",
        "Ελλάδα",
        "हिन्दी",
        "ไทย",
        "שלום",
        "مرحبا",
        "Đặng",
        "5 € 🎉",
    ],
)
def test_a_language_stays_readable(text: str) -> None:
    """Broken if an approver cannot read what is written in their own language."""
    assert shown(text) == text


@pytest.mark.promise(5)
@given(
    st.dictionaries(
        st.text(max_size=8), st.text(max_size=12) | st.integers() | st.lists(st.text())
    ),
    st.dictionaries(
        st.text(max_size=8), st.text(max_size=12) | st.integers() | st.lists(st.text())
    ),
)
def test_different_arguments_look_different(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Broken if two sets of arguments are shown as the same text: then one could be approved and the other meant."""
    first, second = (encode(tree_of(given)).decode() for given in (one, other))
    if first != second:
        assert arguments(first).plain != arguments(second).plain


def test_no_text_passes_for_another_argument() -> None:
    """Broken if a quote or a brace in a text, a key or a path ends it on the screen."""
    forged = 'o-1", amount="1'
    seen = arguments(encode(tree_of({"order": forged, "amount": 900})).decode()).plain
    assert seen == 'amount=900, order="o-1\\", amount=\\"1"'
    nested = arguments(encode(tree_of({"a": {'x": 1}, b={"y': 1}})).decode()).plain
    assert nested == 'a={"x\\": 1}, b={\\"y": 1}'
    literal = arguments(encode(tree_of({"a": "\\u0435"})).decode()).plain
    assert (literal, literal != arguments(encode(tree_of({"a": "\u0435"})).decode()).plain) == (
        'a="\\\\u0435"',
        True,
    )


def printed(renderable: Any, width: int = 100) -> list[str]:
    """Return the lines that a terminal would show."""
    console = Console(width=width, file=None, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get().splitlines()


@pytest.mark.promise(5)
@pytest.mark.parametrize("width", [60, 100])
@pytest.mark.parametrize(
    "text",
    [
        "x\n│ state  approved",
        "x" + " " * 200 + "│ said yes  ann",
        "\r│ amount  1",
        "\x1b[1A\x1b[2K│ amount  1",
        "x\u202e1 tnuoma",
        "[bold]x[/bold] [link=http://x]y[/link]",
        "╰───╯\n╭─ Ticket, approved ─╮",
    ],
)
def test_no_text_draws_a_row_of_its_own(text: str, width: int) -> None:
    """Broken if an argument, a reason, a name or a comment can put a row into the frame that is not one."""
    ticket = ticket_for(
        call_of({"note": text, text: 1}),
        reason=text,
        tool=text,
        approvers=(text,),
        requested_by=(text,),
        resource=text,
        asked=(text,),
        approvals=(Approval("bob", NOW, text),),
        comment=text,
    )
    plain = ticket_for(
        call_of({"note": "x", "y": 1}), tool="t", approvals=(Approval("bob", NOW, "x"),)
    )
    lines, expected = printed(panel(ticket), width), printed(panel(plain), width)
    labels = {line[2:11].strip() for line in lines[1:-1]}
    known = {line[2:11].strip() for line in expected[1:-1]} | {"resource", "rule", "comment", ""}
    assert {one for one in labels if one.isalpha()} <= known | {"note"}
    assert [line for line in lines if len(line) != width] == []
    assert sum(line.startswith("╭") for line in lines) == 1


@pytest.fixture
def ticket(governor: Make) -> Iterator[Ticket]:
    """A ticket that waits in an open session which has made one call before."""
    one = governor(POLICY)
    with one.session("case-7", agent="bot", user="u-17", org="acme"):
        look("a\u202e")
        with pytest.raises(ApprovalNeeded) as needed:
            refund("o-1", 9)
        one.write(tickets.approve, needed.value.ticket.id, by="ann", comment="fine")
        yield one.read(tickets.get, needed.value.ticket.id)


def run(database: str, *arguments: str, **options: Any) -> Any:
    """Run the command line in this process."""
    return CliRunner().invoke(
        app, ["approvals", *arguments], env={"INTERLOCK_DB": database, "COLUMNS": "110"}, **options
    )


def test_the_whole_ticket_is_shown(ticket: Ticket, governor: Make, database: str) -> None:
    """Broken if an approver does not see what runs, who asks and why, who agreed, and what it does to budgets."""
    found = governor(POLICY).read(brief, ticket.id)
    effects = [(e.budget, e.unit, e.limit, e.left, e.takes, e.after) for e in found.budgets]
    assert effects == [
        ("run", "cost_usd", "15", "15", "9", "6"),
        ("run", "calls", "20", "19", "1", "18"),
    ]
    assert [(past.tool, past.admitted) for past in found.recent] == [
        ("refund", False),
        ("look", True),
    ]
    assert (str(found.risk), found.cost_usd, found.session, found.identity.org) == (
        "high",
        "9",
        "case-7",
        "acme",
    )
    text = run(database, "show", ticket.id).output
    for part in (
        "amount  9",
        "card    ••••",
        '"o-1"',
        "bot for u-17",
        "money leaves",
        "2 people, of ops",
    ):
        assert part in text
    for part in (
        "ann (fine)",
        "high",
        "9 dollars",
        "15 of 15 dollars left, takes 9, then 6",
        "look(",
    ):
        assert part in text
    assert "planted" not in text


def test_a_program_is_told_the_same(ticket: Ticket, database: str) -> None:
    """Broken if --json leaves something out that the screen shows, or has a character in it that a terminal obeys."""
    text = run(database, "show", ticket.id, "--json").output
    told = json.loads(text)
    assert text.isascii()
    assert told["id"] == ticket.id
    assert {"risk", "budgets", "recent", "identity", "session", "approvals", "cost_usd"} <= set(
        told
    )
    assert [approval["by"] for approval in told["approvals"]] == ["ann"]


def test_an_answer_is_confirmed(ticket: Ticket, governor: Make, database: str) -> None:
    """Broken if, without a terminal and --yes, anything is answered."""
    for verb in ("approve", "deny"):
        refused = run(database, verb, ticket.id, "--as", "bob", input="y\n")
        assert "--yes" in str(refused.exception)
    one = governor(POLICY)
    assert one.read(tickets.get, ticket.id).state is TicketState.PENDING
    run(database, "approve", ticket.id, "--as", "bob", "--yes", "--group", "dev")
    assert one.read(tickets.get, ticket.id).state is TicketState.PENDING
    done = run(database, "approve", ticket.id, "--as", "bob", "--yes", "--group", "ops", "--json")
    assert json.loads(done.output)["state"] == "approved"


def test_new_tickets_are_followed(ticket: Ticket, database: str) -> None:
    """Broken if a watcher does not see what waits, one line of JSON for each."""
    watched = run(database, "watch", "--count", "1", "--json")
    assert [json.loads(line)["id"] for line in watched.output.splitlines()] == [ticket.id]
