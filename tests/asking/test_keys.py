"""Answers at the command line: with other arguments, from an editor or a file, and by keys on a real terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from interlock import ApprovalNeeded, Governor, Ticket, governed
from interlock._ticket import TicketState
from interlock.store import tickets

Make = Callable[..., Governor]
ASK: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "rules": [
        {"id": "two", "tools": ["give"], "verdict": "ask", "quorum": 2},
        {"id": "one", "tools": ["pay"], "verdict": "ask"},
    ],
}
INTERLOCK = [sys.executable, "-m", "interlock", "approvals"]
HOSTILE = "acme\u202e\x1b[2J\r+ amount=1"


@governed(secrets=["card"])
def pay(to: str, amount: int, card: str = "4111") -> str:
    """Pay somebody."""
    return f"{to}: {amount}"


@governed
def give(to: str) -> str:
    """Give something away."""
    return to


class Desk:
    """A session with tickets, and what a person does about them."""

    def __init__(self, governor: Governor, path: Path) -> None:
        self.governor = governor
        self.path = path

    def asked(self, call: Callable[..., Any], *args: Any) -> Ticket:
        """Make a call that is asked about."""
        with pytest.raises(ApprovalNeeded) as needed:
            call(*args)
        return needed.value.ticket

    def ticket(self, ticket: Ticket) -> Ticket:
        """The ticket as it stands."""
        return self.governor.read(tickets.get, ticket.id)

    def editor(self, code: str) -> str:
        """Return a command that edits a file: *code* is Python that changes `data`, or sets `out` to any text."""
        script = self.path / "editor.py"
        script.write_text(
            "import json, sys, time\nfrom pathlib import Path\npath = Path(sys.argv[1])\n"
            f"text, out = path.read_text(), ''\ndata = json.loads(text)\n{code}\n"
            "path.write_text(out or json.dumps(data))\n"
            "import os\nos.utime(path, (time.time() + 9, time.time() + 9))\n"
        )
        return f"{sys.executable} {script}"

    def run(self, *order: str, typed: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command without a terminal."""
        return subprocess.run(
            [*INTERLOCK, *order],
            cwd=self.path,
            env={**os.environ, **env},
            input=typed,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def desk(governor: Make, tmp_path: Path) -> Iterator[Desk]:
    """A desk over `interlock.db`, in a directory of its own."""
    made = governor(ASK, url=f"sqlite:///{tmp_path / 'interlock.db'}")
    with made.session("s", agent="bot"):
        yield Desk(made, tmp_path)


class Terminal:
    """A real terminal, in which a command runs; keys are pressed when a text was shown."""

    def __init__(self, desk: Desk, *order: str, **env: str) -> None:
        self._end, other = pty.openpty()
        self._process = subprocess.Popen(
            [*INTERLOCK, *order],
            cwd=desk.path,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", **env},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        self.shown = ""
        self._seen = 0

    def until(self, text: str) -> str:
        """Wait until *text* is shown, and return all that was since the last one."""
        while (place := plain(self.shown).find(text, self._seen)) < 0:
            ready, _, _ = select.select([self._end], [], [], 15)
            assert ready, f"{text!r} was never shown: {self.shown!r}"
            try:
                self.shown += os.read(self._end, 4096).decode()
            except OSError:
                raise AssertionError(f"{text!r} was never shown: {self.shown!r}") from None
        begun, self._seen = self._seen, place + len(text)
        return plain(self.shown)[begun : self._seen]

    def press(self, keys: str) -> None:
        """Type: a single key once the command waits for one, since it throws away what was typed before that."""
        waits_for_line = keys.endswith("\n")
        while bool(termios.tcgetattr(self._end)[3] & termios.ICANON) is not waits_for_line:
            threading.Event().wait(0.01)
        os.write(self._end, keys.encode())

    def end(self) -> int:
        """Wait for the command's end, and return its status."""
        while True:
            try:
                read = os.read(self._end, 4096)
            except OSError:  # the other end is closed
                break
            if not read:
                break
            self.shown += read.decode()
        return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._process.kill()
            self._process.wait()
        os.close(self._end)


def plain(text: str) -> str:
    """What is seen of it, without colours."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r\n", "\n")


def test_approve_with_arguments_from_a_file(desk: Desk) -> None:
    """Broken if the arguments in a file, or on standard input, are not what runs, or the difference is not shown."""
    one, other = desk.asked(pay, "acme", 900), desk.asked(pay, "globex", 900)
    data = {"amount": 50, "card": {"$secret": True}, "to": "acme"}
    (desk.path / "new.json").write_text(json.dumps(data))
    done = desk.run("approve", one.id, "--as", "ann", "--arguments", "new.json", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "- amount=900\n+ amount=50\n" in done.stdout
    assert "50  (was 900; changed by ann)" in done.stdout
    data["to"] = "globex"
    order = ["approve", other.id, "--as", "ann", "--arguments", "-", "--yes", "--json"]
    done = desk.run(*order, typed=json.dumps(data))
    found = json.loads(done.stdout)
    assert (found["state"], found["edited_by"]) == ("approved", "ann")
    assert json.loads(found["edited"]) == data
    assert [pay("acme", 900), pay("globex", 900)] == ["acme: 50", "globex: 50"]


BAD = {
    "no json": ("{", "the arguments are not JSON: line 1, column 2"),
    "no object": ("[]", "are not one JSON object"),
    "missing": ('{"amount": 1, "to": "acme"}', "argument 'card' is missing"),
    "extra": ('{"amount": 1, "to": "a", "card": {"$secret": true}, "x": 1}', "'x' is none of the"),
    "twice": ('{"amount": 1, "amount": 2, "to": "a", "card": 1}', "name something twice"),
    "infinite": ('{"amount": NaN, "to": "a", "card": {"$secret": true}}', "not finite"),
    "secret": ('{"amount": 1, "to": "a", "card": "4112"}', "argument 'card' is a secret"),
    "tag": ('{"amount": {"$decimal": "x"}, "to": "a", "card": {"$secret": true}}', "as its type"),
    "object": ('{"amount": {"$object": "x"}, "to": "a", "card": {"$secret": true}}', "by hand"),
    "dollar": ('{"amount": {"$ref": 1}, "to": "a", "card": {"$secret": true}}', "one dollar"),
    "deep": ('{"amount": ' + "[" * 5000 + "]" * 5000 + ', "to": 1, "card": 1}', "nested"),
}


@pytest.mark.parametrize("name", BAD)
def test_senseless_arguments_are_refused(name: str, desk: Desk) -> None:
    """Broken if arguments that cannot run are approved, or the error is a traceback, or shows a value."""
    text, said = BAD[name]
    ticket = desk.asked(pay, "acme", 900)
    order = ["approve", ticket.id, "--as", "ann", "--arguments", "-", "--yes"]
    done = desk.run(*order, typed=text)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert said in " ".join(done.stderr.split())
    assert "4112" not in done.stderr
    assert desk.ticket(ticket) == ticket


def test_orders_that_make_no_sense_are_refused(desk: Desk) -> None:
    """Broken if an answer is written without a confirmation, or from two places."""
    ticket = desk.asked(pay, "acme", 900)
    for order, said in (
        (["--edit", "--arguments", "x"], "exclude each other"),
        (["--arguments", "-"], "say --yes, too"),
        (["--arguments", "nowhere.json", "--yes"], "cannot be read"),
        (["--edit"], "there is no terminal"),
        (["--edit", "--yes"], "there is no terminal"),
    ):
        done = desk.run("approve", ticket.id, "--as", "ann", *order)
        assert done.returncode == 2
        assert said in " ".join(done.stderr.split())
    assert desk.ticket(ticket) == ticket


def test_approve_from_an_editor(desk: Desk) -> None:
    """Broken if what is written in the editor is not what runs, or it runs without a confirmation."""
    ticket = desk.asked(pay, "acme", 900)
    editor = desk.editor("data['amount'] = 60")
    order = ["approve", ticket.id, "--as", "ann", "--edit"]
    with Terminal(desk, *order, EDITOR=editor, VISUAL=editor) as terminal:
        shown = terminal.until("Approve as ann?")
        assert "- amount=900\n+ amount=60\n" in shown
        terminal.press("n\n")
        assert terminal.end() == 2
    assert desk.ticket(ticket).state is TicketState.PENDING
    with Terminal(desk, *order, EDITOR=editor, VISUAL=editor) as terminal:
        terminal.until("Approve as ann?")
        terminal.press("y\n")
        assert terminal.end() == 0
    assert pay("acme", 900) == "acme: 60"


@pytest.mark.parametrize("code", ["pass", "out = '{'", "sys.exit(1)"])
def test_an_editor_that_does_nothing(code: str, desk: Desk) -> None:
    """Broken if a call is approved as it was made because an editor failed, was left, or wrote nonsense."""
    ticket = desk.asked(pay, "acme", 900)
    editor = desk.editor(code)
    order = ["approve", ticket.id, "--as", "ann", "--edit"]
    with Terminal(desk, *order, EDITOR=editor, VISUAL=editor) as terminal:
        if code == "pass":
            terminal.until("The arguments stay as they are")
            terminal.press("n\n")
        assert terminal.end() == 2
    assert desk.ticket(ticket) == ticket


def test_hostile_arguments_cannot_forge_the_difference(desk: Desk) -> None:
    """Broken if what an agent wrote acts on the terminal, or draws a line of the difference."""
    ticket = desk.asked(pay, HOSTILE, 900)
    editor = desk.editor("assert text.isascii()\ndata['to'] += '!'")
    order = ["approve", ticket.id, "--as", "ann", "--edit"]
    with Terminal(desk, *order, EDITOR=editor, VISUAL=editor) as terminal:
        shown = terminal.until("Approve as ann?")
        terminal.press("n\n")
        terminal.end()
        assert "\x1b[2J" not in terminal.shown
        assert "\u202e" not in terminal.shown
    assert '\n- to="acme\\u202e\\x1b[2J\\r+ amount=1"\n+ to=' in shown
    assert "\n+ amount" not in shown


def test_what_somebody_has_changed_is_shown_before_the_second_yes(desk: Desk) -> None:
    """Broken if the second of two approves the call as it was made, or blindly what the first has changed."""
    ticket = desk.asked(give, "acme")
    desk.governor.write(tickets.approve, ticket.id, by="ann", arguments={"to": "globex"})
    done = desk.run("approve", ticket.id, "--as", "ben", "--yes")
    assert (done.returncode, "ann has changed the arguments" in done.stderr) == (2, True)
    with Terminal(desk, "approve", ticket.id, "--as", "ben") as terminal:
        assert '"globex"  (was "acme"; changed by ann)' in terminal.until("Approve as ben?")
        terminal.press("y\n")
        assert terminal.end() == 0
    assert give("acme") == "globex"


def test_keys(desk: Desk) -> None:
    """Broken if a key does something else than it says, or a yes is given without a confirmation."""
    names = ["yes", "no", "edit", "skip", "second", "last"]
    asked = {name: desk.asked(pay, name, 900) for name in names}
    editor = desk.editor("data['amount'] = 70")
    order = ["watch", "--as", "ann", "--interval", "0.05"]
    with Terminal(desk, *order, EDITOR=editor, VISUAL=editor) as terminal:
        for name, keys in (
            ("yes", ["x", "a", "n\n", "a", "y\n"]),
            ("no", ["d", "too much\n"]),
            ("edit", ["e", "y\n"]),
            ("skip", ["s"]),
            ("second", ["A", "y\n"]),
            ("last", ["q"]),
        ):
            terminal.until(asked[name].id)
            for key in keys:
                # Each key is pressed when it is asked for: before that the terminal would echo it.
                text = (
                    "[q]uit" if len(key) == 1 else "Reason" if "too" in key else "Approve as ann?"
                )
                shown = terminal.until(text)
                terminal.press(key)
                assert name != "edit" or key != "y\n" or "+ amount=70" in shown
        assert terminal.end() == 0
    found = {name: desk.ticket(ticket) for name, ticket in asked.items()}
    assert {name: str(one.state) for name, one in found.items()} == {
        "yes": "approved",
        "no": "denied",
        "edit": "approved",
        "skip": "pending",
        "second": "approved",
        "last": "pending",
    }
    assert found["no"].comment == "too much"
    assert {one.decided_by for one in found.values()} == {"ann", None}
    assert [pay("edit", 900), pay("yes", 900)] == ["edit: 70", "yes: 900"]


def test_a_new_ticket_is_answered_as_it_comes(desk: Desk) -> None:
    """Broken if a ticket that is opened while somebody watches is not shown, or is answered for by a stale one."""
    first = desk.asked(pay, "first", 900)
    with Terminal(desk, "watch", "--as", "ann", "--interval", "0.05", "--count", "2") as terminal:
        terminal.until(first.id)
        terminal.until("[q]uit")
        desk.governor.write(tickets.deny, first.id, by="ben")
        terminal.press("a")
        terminal.until("Approve as ann?")
        terminal.press("y\n")
        terminal.until("is already denied, by ben")
        threading.Event().wait(0.1)
        second = desk.asked(pay, "second", 900)
        terminal.until(second.id)
        terminal.until("[q]uit")
        terminal.press("a")
        terminal.until("Approve as ann?")
        terminal.press("y\n")
        assert terminal.end() == 0
    assert pay("second", 900) == "second: 900"


def test_watching_without_a_terminal_answers_nothing(desk: Desk) -> None:
    """Broken if a program that follows the tickets answers them with what it happens to read."""
    ticket = desk.asked(pay, "acme", 900)
    done = desk.run("watch", "--as", "ann", "--count", "1", "--json", typed="a\ny\n")
    assert json.loads(done.stdout)["id"] == ticket.id
    assert desk.ticket(ticket) == ticket
