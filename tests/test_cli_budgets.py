"""`interlock budgets` and `usage`, run as people and scripts run them: as a process, on real books, with exit codes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import BudgetExceeded, Governor, Identity, governed
from interlock._budget import Account
from interlock.cli import budgets as listing
from interlock.cli.bars import WIDTH, bar
from interlock.store import budgets as stored
from interlock.testing import ManualClock
from tests.commands import Cli, cli_of, lines

NOON = datetime(2026, 3, 31, 12, tzinfo=UTC)
BUDGETS = [
    {"name": "tenant-day", "per": "org", "window": "day", "cost_usd": "0.10", "tokens": 100_000},
    {"name": "pair", "per": ["user", "model"], "calls": 2},
]
HOSTILE = "m\x1b[31m\u202e"
AT = "2026-03-31T12:30Z"


def spend(governor: Governor, model: str, cost: str | None, **who: str) -> None:
    """Record 1,200 tokens in and 300 out of *model*, whatever the budgets say."""
    fields: dict[str, Any] = {} if cost is None else {"cost_usd": cost}
    identity = Identity(agent="bot", **who)
    with suppress(BudgetExceeded):
        governor.record_usage(
            model=model, input_tokens=1_200, output_tokens=300, identity=identity, **fields
        )


BOTH = pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
"""Of tests that hold on either store."""


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store of this test's own: SQLite, unless the test says that it holds on Postgres, too."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path / 'interlock.db'}"
    url: str = request.getfixturevalue("postgres")
    return url


@pytest.fixture
def cli(database: str) -> Cli:
    """Run `interlock` on this test's store."""
    return cli_of(database, columns=120)


@pytest.fixture
def books(database: str) -> str:
    """A store in which acme has overspent its day, globex has not, and some usage has no price; return its URL."""
    clock = ManualClock(NOON)
    with Governor(database, budgets=BUDGETS, clock=clock) as governor:
        spend(governor, "gpt-5-mini", "0.0731", org="acme", user="u-17")
        spend(governor, "claude-haiku-4-5", "0.05", org="acme")
        spend(governor, "gpt-5-mini", "0.000000001", org="globex", user="u-2")
        spend(governor, HOSTILE, None, user="nobody")
        clock.advance(timedelta(days=1))
        spend(governor, "gpt-5-mini", "0.02", org="globex", user="u-2")
    return database


def squeezed(result: subprocess.CompletedProcess[str]) -> str:
    """What a command printed, blanks and ends of lines made one blank: how it wraps is not the point."""
    return " ".join(result.stdout.split())


@BOTH
@pytest.mark.usefixtures("books")
def test_budgets_are_exact_for_programs(cli: Cli) -> None:
    """Broken if an amount is rounded, a share cannot be told from another, or a window has other ends than it has."""
    found = {
        (one["budget"], *one["share"]): one
        for one in lines(cli("budgets", "--json", "--at", AT), code=1)  # one is overspent
    }
    assert set(found) == {
        ("pair", "nobody", HOSTILE),
        ("pair", "u-17", "gpt-5-mini"),
        ("pair", "u-2", "gpt-5-mini"),
        ("pair", None, "claude-haiku-4-5"),
        ("tenant-day", "acme"),
        ("tenant-day", "globex"),
        ("tenant-day", None),
    }
    assert found["tenant-day", "acme"] == {
        "budget": "tenant-day",
        "share": ["acme"],
        "starts_at": "2026-03-31T00:00:00Z",
        "ends_at": "2026-04-01T00:00:00Z",
        "cost_usd": {"limit": "0.1", "reserved": "0", "spent": "0.1231"},
        "tokens": {"limit": 100_000, "reserved": 0, "spent": 3_000},
        "calls": {"limit": None, "reserved": 0, "spent": 2},
        "overspent": True,
    }
    assert found["tenant-day", "globex"]["cost_usd"]["spent"] == "0.000000001"
    assert found["pair", "u-2", "gpt-5-mini"] == {
        "budget": "pair",
        "share": ["u-2", "gpt-5-mini"],
        "starts_at": None,
        "ends_at": None,
        "cost_usd": {"limit": None, "reserved": "0", "spent": "0.020000001"},
        "tokens": {"limit": None, "reserved": 0, "spent": 3_000},
        "calls": {"limit": 2, "reserved": 0, "spent": 2},
        "overspent": False,
    }


@BOTH
@pytest.mark.usefixtures("books")
def test_budgets_are_readable_for_people(cli: Cli) -> None:
    """Broken if the table hides whose share it is, when the window ends, or by how much a limit is passed."""
    result = cli("budgets", "--at", AT)
    shown = squeezed(result)
    assert (
        f"tenant-day acme 2026-04-01 00:00Z {'█' * WIDTH} 0.1231 of 0.1 dollars OVERSPENT "
        f"█{'·' * (WIDTH - 1)} 3,000 of 100,000 tokens" in shown
    )
    assert "pair u-17, gpt-5-mini never ends ██████······ 1 of 2 calls" in shown
    assert "pair nobody, claude-haiku-4-5 never ends" in shown
    assert 'pair "nobody", m\\x1b[31m\\u202e never ends' in shown
    assert not {"\x1b", "\u202e"} & set(result.stdout)
    assert shown.count("OVERSPENT") == 1


@pytest.mark.usefixtures("books")
def test_an_overspent_budget_is_an_exit_code(cli: Cli) -> None:
    """Broken if a script cannot tell that a budget is overspent, or is alarmed about one that is used up exactly."""
    assert cli("budgets", "--at", AT).returncode == 1
    assert cli("budgets", "--at", AT, "--json").returncode == 1
    assert cli("budgets", "--at", AT, "--budget", "pair").returncode == 0
    tomorrow = cli("budgets", "--at", "2026-04-01", "--budget", "tenant-day", "--json")
    assert ([one["share"] for one in lines(tomorrow)], tomorrow.returncode) == ([["globex"]], 0)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-03-31T00:00Z", 3),
        ("2026-03-30T23:59:59.999999Z", 0),
        ("2026-03-31T23:59:59.999999Z", 3),
        ("2026-04-01T00:00Z", 1),
        ("2026-04-01T01:59:59+02:00", 3),
        ("2026-04-01T02:00+02:00", 1),
        ("2026-04-02", 0),
    ],
)
@pytest.mark.usefixtures("books")
def test_a_window_is_open_from_its_beginning_until_its_end(
    cli: Cli, at: str, expected: int
) -> None:
    """Broken if a window is shown at the instant of its end, or not at that of its beginning."""
    result = cli("budgets", "--budget", "tenant-day", "--at", at, "--json")
    assert expected == len(lines(result, code=result.returncode))


@BOTH
def test_what_running_calls_hold_is_shown_apart(
    cli: Cli, governor: Callable[..., Governor]
) -> None:
    """Broken if a reservation is shown as spent, or not at all."""

    @governed(cost="amount")
    def pay(amount: str) -> None:
        shown.append(cli("budgets"))
        programs.append(lines(cli("budgets", "--json")))

    shown: list[Any] = []
    programs: list[Any] = []
    policy = {
        "version": 1,
        "name": "p",
        "default": "allow",
        "budgets": [{"name": "b", "per": "org", "cost_usd": 40}],
    }
    with governor(policy).session("s", agent="bot", org="acme"):
        pay("12.5")
        pay("3")
    assert "b acme never ends ████▒······· 12.5 + 3 of 40 dollars" in squeezed(shown[1])
    assert programs[1][0]["cost_usd"] == {"limit": "40", "reserved": "3", "spent": "12.5"}


def test_a_budget_without_limits_is_said_so(cli: Cli, database: str) -> None:
    """Broken if a budget that only allows models ends in a traceback or an empty cell."""
    budgets = [{"name": "only", "per": "org", "models": ["gpt-5-mini"]}]
    with Governor(database, budgets=budgets) as governor:
        spend(governor, "gpt-5-mini", "1", org="acme")
    assert "only acme never ends no limit on amounts; 1 calls" in squeezed(cli("budgets"))


@BOTH
@pytest.mark.usefixtures("books")
def test_usage_is_summed_dearest_first(cli: Cli) -> None:
    """Broken if a sum is rounded, out of order, or counts what has no price as free without saying so."""
    sums = lines(cli("usage", "--json"))
    assert [(one["model"], one["calls"], one["cost_usd"], one["unpriced"]) for one in sums] == [
        ("gpt-5-mini", 3, "0.093100001", 0),
        ("claude-haiku-4-5", 1, "0.05", 0),
        (HOSTILE, 1, "0", 1),
    ]
    assert {
        "input_tokens": 3_600,
        "output_tokens": 900,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "reasoning_tokens": 0,
    }.items() <= sums[0].items()


@BOTH
@pytest.mark.usefixtures("books")
def test_usage_is_readable_for_people(cli: Cli) -> None:
    """Broken if a bar is out of proportion, a total is missing, or control characters act on the terminal."""
    result = cli("usage")
    shown = squeezed(result)
    assert f"gpt-5-mini 3 3,600 900 0.093100001 {'█' * WIDTH}" in shown
    assert "claude-haiku-4-5 1 1,200 300 0.05 ███████····· " in shown
    assert f"m\\x1b[31m\\u202e 1 1,200 300 0 {'·' * WIDTH} + 1 call has no known price" in shown
    assert shown.endswith(
        "0.143100001 dollars for 5 calls, 6,000 tokens in and 1,500 out; "
        "1 call has no known price, and not in the sum"
    )
    assert not {"\x1b", "\u202e"} & set(result.stdout)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--by org", [["acme"], ["globex"], [None]]),
        ("--by org,day --org globex", [["globex", "2026-04-01"], ["globex", "2026-03-31"]]),
        ("--by user --since 2026-04-01", [["u-2"]]),
        ("--by user --since 2026-04-01T12:00Z", [["u-2"]]),
        ("--by user --since 2026-04-01T12:00:00.000001Z", []),
        ("--by user --until 2026-04-01 --model gpt-5-mini", [["u-17"], ["u-2"]]),
        ("--by user --until 2026-03-31T12:00Z", []),
        ("--by agent,team --user u-17", [["bot", None]]),
        ("--by session_id,provider --agent bot --user u-2", [[None, None]]),
        ("--by model --team t", []),
        ("--by org --limit 3", [["acme"], ["globex"], [None]]),
    ],
)
@pytest.mark.usefixtures("books")
def test_usage_is_selected(cli: Cli, options: str, expected: list[Any]) -> None:
    """Broken if an option selects other usage than it says, or keeps apart by something else."""
    columns = options.split()[1].split(",")
    found = lines(cli("usage", "--json", *options.split()))
    assert expected == [[one[column] for column in columns] for one in found]


@pytest.mark.usefixtures("books")
def test_the_total_is_of_all_and_what_is_cut_is_said(cli: Cli) -> None:
    """Broken if a limit makes a sum smaller, or somebody takes the first page for the whole."""
    cut = cli("usage", "--limit", "1")
    assert "0.143100001 dollars for 5 calls" in squeezed(cut)
    assert (0, "claude-haiku-4-5" in cut.stdout) == (cut.returncode, False)
    assert "only the 1 dearest sums are shown" in cut.stderr
    windows = cli("budgets", "--at", AT, "--limit", "6", "--json")
    assert (len(windows.stdout.splitlines()), "only the first 6" in windows.stderr) == (6, True)
    assert cli("budgets", "--at", AT, "--limit", "7").stderr == ""


@pytest.mark.usefixtures("books")
def test_what_is_not_there_says_what_to_do(cli: Cli) -> None:
    """Broken if a mistyped name is a traceback, or an empty table that passes for an answer."""
    for arguments, code, said in (
        (
            ["budgets", "--budget", "nix"],
            0,
            "Budget 'nix' has no window that is open now. One opens",
        ),
        (["usage", "--org", "nix"], 0, "No usage matches. Leave options out"),
    ):
        result = cli(*arguments)
        assert (code, "") == (result.returncode, result.stderr)
        assert said in squeezed(result)
        assert lines(cli(*arguments, "--json")) == []
    for arguments, said in (
        (["usage", "--by", "modell"], "write some of agent, user, team, org, provider, model"),
        (["usage", "--by", ""], "write some of agent"),
        (["usage", "--by", "org,org"], "names a column twice"),
        (["usage", "--since", "yesterday"], "write it as 2026-01-31"),
        (["budgets", "--at", "noon"], "write it as 2026-01-31"),
    ):
        result = cli(*arguments)
        assert (result.returncode, result.stdout) == (2, "")
        assert said in " ".join(result.stderr.replace("│", " ").split())


@BOTH
def test_an_empty_store_says_what_to_do(cli: Cli, database: str) -> None:
    """Broken if a first look at the books is a blank screen."""
    Governor(database).close()
    assert "No budget has a window that is open now." in squeezed(cli("budgets"))
    assert "No usage is recorded yet. Record it with governor.record_usage" in squeezed(
        cli("usage")
    )
    for command in ("budgets", "usage"):
        assert (cli(command).returncode, lines(cli(command, "--json"))) == (0, [])


@pytest.mark.usefixtures("books")
def test_a_terminal_without_blocks_shows_signs(cli: Cli) -> None:
    """Broken if a bar is a traceback on a terminal that has only ASCII."""
    options = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    result = cli("budgets", "--at", AT, **options)
    assert (result.stderr, result.returncode) == ("", 1)
    assert f"{'#' * WIDTH} 0.1231 of 0.1 dollars OVERSPENT" in squeezed(result)
    assert cli("usage", **options).returncode == 0
    assert cli("budgets", "--budget", "nix", **options).returncode == 0


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 2**62))
def test_a_bar_does_not_lie(first: int, second: int, whole: int) -> None:
    """Broken if a bar that is not full looks full, or something looks like nothing."""
    drawn = bar(first, second, whole).plain
    assert len(drawn) == WIDTH
    assert drawn == "".join(sorted(drawn, key="█▒·#=.".index))
    filled = sum(mark not in "·." for mark in drawn)
    assert (first + second > 0) == (filled > 0)
    assert (first + second >= whole and first + second > 0) == (filled == WIDTH)
    if second and filled > 1:
        assert set("▒=") & set(drawn)


@BOTH
@pytest.mark.usefixtures("books")
def test_pages_leave_nothing_out(database: str) -> None:
    """Broken if a page of budgets skips a window or shows one again, or ends before the last."""
    at = datetime.fromisoformat(AT)
    with Governor(database) as governor:
        whole = governor.read(stored.standing, at=at)
        paged: list[Account] = []
        while page := governor.read(
            stored.standing, at=at, after=paged[-1].key if paged else None, limit=2
        ):
            paged += page
    assert len(whole) == 7
    assert whole == paged


@BOTH
def test_more_budgets_than_a_page_holds(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if the command reads one page and takes it for all."""
    monkeypatch.setattr(listing, "PAGE", 2)
    with Governor(database, budgets=BUDGETS, clock=ManualClock(NOON)) as governor:
        for number in range(5):
            spend(governor, "m-1", "0.01", org=f"org-{number}", user=f"u-{number}")
        found = list(listing._pages(governor, "tenant-day", None, 4))
        everything = list(listing._pages(governor, "tenant-day", None, 100))
    assert [account.key.scope for account in found] == [f'["org-{n}"]' for n in range(4)]
    assert [account.key.scope for account in everything] == [f'["org-{n}"]' for n in range(5)]
