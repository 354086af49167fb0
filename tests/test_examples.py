"""The examples: each is run as a user runs it, and prints what it should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from interlock import Governor
from interlock.events import CallDecided, CallFinished, TicketResolved
from interlock.store.events import whole_history
from interlock.store.sessions import newest
from tests.otlp_receiver import attributes, receiving

EXAMPLES = Path(__file__).parents[1] / "examples"

# What each prints, line by line: regular expressions, found in this order. An example without an entry fails.
PRINTS = {
    "approval_across_processes.py": [
        r'^approver: pay {"amount":900,"to":"acme"} \(money leaves\)$',
        r"^worker: +paid 900 to acme$",
        r'^approver: pay {"amount":90000,"to":"globex"} \(money leaves\)$',
        r"^worker: +pay is denied: ann said no: ask Finance\. Do not retry it\.$",
        r'^approver: pay {"amount":9000,"to":"initech"} \(money leaves\)$',
        r"^worker: +paid 900 to initech$",
        r"^resumed: +paid 400 to hooli$",
        r"^resumed: +ticket … is claimed, so nothing was run",
    ],
    "audit_trail.py": [
        r"^1 app_noted, 8 call_decided, 8 call_finished, 1 session_closed, 1 session_opened$",
        r"1\. chat\(model=\"gpt-5-mini\"\)",
        r"3\. pay\(amount=120, iban=••••\)",
        r"observe: it ran whatever was thought of it",
        r"raised LookupError",
        r'gave_up {invoice: "i-3", why: "i-3 was never scanned"}',
        r"^cost +\$200\.001035",
        r"^\$ interlock sessions show ",
        r"^1 of 1 sessions verified$",
    ],
    "checkpoint_collector.py": [
        r"^checkpoint 1: 1 sessions, 4 events$",
        r"^checkpoint 2: 2 sessions, 8 events$",
        r"^the database by itself: all of its sessions are sound$",
        r"^the collector: session \S+ is gone: at .*Z it had 4 events$",
    ],
    "claude_agent.py": [
        r"^Bash is denied: no rule matches, and the policy's default is deny\. Do not retry it\.$",
        r"^bank\.pay needs approval by payments-oncall: rule pay says ask\. It did not run; ",
        r"^900 dollars paid$",
        r"^claude-sonnet-4-5 4920 200 0\.01569",
    ],
    "condition_trees.py": [
        r"^team support$",
        r"^  sent to eve@example\.com$",
        r"^  read about bob$",
        r"^  send_email is denied: what was read about customers stays within the company\. Do not retry it\.$",
        r"^  sent to ann@acme\.example$",
        r"^  refunded 20$",
        r"^  refund is denied: no rule matches, and the policy's default is deny\.",
        r"^  refund is denied: no rule matches, and the policy's default is deny\.",
        r"^  refund is denied: rule small-refunds cannot be applied: argument 'amount' is a str",
        r"^team billing$",
        r"^  refunded 20$",
        r"^  refunded 400$",
        r"^  refund is denied: no rule matches",
    ],
    "cost_tracking.py": [
        r"^acme +claude-haiku-4-5 +0\.\d+ by genai-prices ",
        r"^globex +globex-small +0\.0404000 by plugin:OwnPrices$",
        r"^! usage of gpt-5-mini is recorded, and with it more is spent than allowed of: tenant-day\.",
        r"^org +model +calls +tokens in +out +dollars$",
        r"^acme +claude-haiku-4-5 +2 +113,000 +4,200 +0\.\d{6}$",
        r"^globex +globex-small +1 +90,000 +11,000 +0\.040400$",
        r'^tenant-day \["acme"\]: 0\.1\d+ of 0\.10 dollars, overspent$',
        r'^tenant-day \["globex"\]: 0\.05\d+ of 0\.10 dollars, within its limit$',
    ],
    "crash_and_recovery.py": [
        r"^the process ended with SIGKILL$",
        r"^calls running, for all that is known: 2$",
        r"^happened, as the bank says: \['pay'\]$",
        r"^in doubt: \['wire'\]$",
        r"^running: 0 in doubt: 0$",
        r"^a second run changes something: False$",
        r"^the session goes on$",
    ],
    "egress_guard.py": [
        r"^2 orders$",
        r"^fetch is denied: the URL in argument 'url' cannot be judged: it names a user before the host\.",
        r"^The request was not sent: its destination is not granted\. Do not retry it\.$",
    ],
    "exclusive_resource.py": [
        r"^deploy was not run: lease one-deployment is taken by call \S+ of session \S+ until it ends, and until ",
        r"^deployed web 7\.0 under token 1$",
        r"^deployed api 1\.2 under token 1$",
        r"^deployed api 1\.3 under token 2$",
        r"^versions: web 7\.0, api 1\.2, api 1\.3$",
    ],
    "fastapi_host.py": [
        r"^200 approved$",
        r"^  pending tickets 0, model calls 1, audit rows 1$",
        r"^409 o-1 was refunded before$",
        r"^  pending tickets 1, model calls 1, audit rows 1$",
    ],
    "mcp_proxy.py": [
        r"^balance\(\): 1200 dollars$",
        r"^pay\(amount=20\): 20 dollars paid$",
        r"^close_account\(\): bank\.close_account is denied: no rule matches, and the policy's default is deny\.",
        r"^pay\(amount=900\): bank\.pay needs approval by payments-oncall: rule large says ask\. It did not run; ",
        r"^ann says yes, in another process$",
        r"^pay\(amount=900\): 900 dollars paid$",
    ],
    "openai_handoff.py": [
        r"^front-desk: transfer_to_legal is denied: lawyers are called by people\. Do not retry it\.$",
        r'^front-desk: {"assistant": "billing"}$',
        r"^with billing: waits$",
        r'^refund {"amount":900,"order_id":"o-1"} waits for payments-oncall$',
        r"^ann says yes$",
        r"^billing: 900 dollars of o-1 paid back$",
        r"^with billing: Your money is on its way\.$",
    ],
    "postgres_workers.py": [
        r"^The tables are of version 0001, made now\.$",
        r"^halted: what was admitted before goes on, and nothing after$",
        r"^looked up by all of them: 50 of 50$",
        r"^the books agree: True$",
    ],
    "projection.py": [
        r"^took 2: refund 1$",
        r"^took 3: refund 3$",
        r"^took 0: refund 3$",
    ],
    "quickstart.py": [
        r"^refunded 20 for o-1$",
        r"^refund needs approval by payments-oncall: a refund over 50 needs a person\. It did not run",
        r"^wire_money was not run: agents do not wire money\. .* Use instead: create_payment_request\.$",
    ],
    "kill_switch.py": [
        r"^sent to ann$",
        r"^send was not run: org acme is halted: letters went astray",
        r"^sent to eve$",
        r"^sent to bob$",
        r"^send_to_all is denied: rule no-spam says deny",
        r"^send_to_all is denied: rule no-spam says deny",
        r"^send_to_all was not run: agent support-bot is halted: 2 calls in a row were refused",
    ],
    "quickstart_async.py": [
        r"^refunded 20 for o-1$",
        r"^refund needs approval by payments-oncall: a refund over 50 needs a person\. It did not run",
        r"^wire_money was not run: agents do not wire money\. .* Use instead: create_payment_request\.$",
    ],
    "raw_clients.py": [
        r"^20 dollars of o-1 paid back$",
        r"^! chat is denied: no rule matches, and the policy's default is deny\.",
        r"^! GET /batches is not governed by Interlock, so it was not sent",
        r"^0\.000690 dollars$",
    ],
    "steering.py": [
        r"^steered to create_payment_request: Finance reviews payment requests\.$",
        r"^steered to create_payment_request: Finance reviews payment requests\.$",
        r"^denied: rule no-wires says steer, and has said so 2 times$",
        r"^requested 900 for ann$",
        r"^eve can be paid$",
        r"^finance must say yes: its risk is critical$",
    ],
    "support_desk.py": [
        r"✔ allow +chat +the agent may think",
        r"model=ScriptedModel +returned, ",
        r"✔ allow +find_order",
        r"✔ allow +find_customer",
        r"✔ allow +refund +at most 50 dollars",
        r"amount=20, order_id=A-1001 +returned, ",
        r"\? ask +refund +over 50 dollars needs a person",
        r"amount=480, order_id=A-1001 +not run → payments-oncall",
        r"interlock approvals approve [0-9a-f-]{36} --db \S+ --as ann --yes",
        r"● human .* approved by ann: photos seen",
        r"✔ ask +refund +ann said yes",
        r"amount=480, order_id=A-1001 +returned, ",
        r"↪ steer +wire_money",
        r"not run → create_payment_request",
        r"✔ allow +create_payment_request",
        r"✘ deny +delete_customer",
        r"✔ allow +send_receipt",
        r"raised ConnectionError",
        r"^The agent: ",
        r"^Decided +13 allow +2 ask +1 steer +1 deny",
        r"^Spent +500 dollars",
        r"^History +35 events: gapless, chained, unchanged",
        r"^In doubt +0 calls",
        r"interlock replay [0-9a-f-]{36} --db ",
    ],
    "tenant_budgets.py": [
        r"^3 tenants, each seeded once$",
        r"^acme +(ann|joe) +stops at answer \d: usage of claude-haiku-4-5 is recorded, and with it more is spent ",
        r"^acme +\d+ calls +1\.\d+ dollars$",
        r'^\["acme"\] +#################### +-0\.\d+ left$',
        r'^\["globex"\] +########\.{12} +0\.8500 left$',
    ],
}
NEEDS = {"postgres_workers.py": "empty_postgres"}
"""What an example is given, besides an empty directory: the fixture with the URL of a database."""


def _run(directory: Path, example: str, *arguments: str, **environment: str) -> str:
    """Run an example in an empty directory, without network, and return what it printed."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / example, *arguments],
        cwd=directory,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "PYTHONUTF8": "1",
            "https_proxy": "http://127.0.0.1:9",  # nobody listens there
            **environment,
        },
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
    return ran.stdout


def _check(example: str, printed: str, columns: int) -> None:
    lines = iter(printed.splitlines())
    for pattern in PRINTS[example]:
        assert any(re.search(pattern, line) for line in lines), f"no {pattern!r} in:\n{printed}"
    if example == "support_desk.py":
        too_long = [line for line in printed.splitlines() if len(line.rstrip()) > columns]
        # Only commands may be: they are there to be copied whole.
        assert [line for line in too_long if "interlock" not in line] == []


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_example_prints_what_it_should(
    tmp_path: Path, example: str, request: pytest.FixtureRequest
) -> None:
    """Broken if an example fails, warns, or shows something else than it is there to show."""
    given = [request.getfixturevalue(NEEDS[example])] if example in NEEDS else []
    _check(example, _run(tmp_path, example, *given, COLUMNS="80"), 80)


def test_demo_shows_what_was_recorded(tmp_path: Path) -> None:
    """Broken if the demo's screen says anything of a decision or an outcome that its books do not."""
    url = f"sqlite:///{tmp_path / 'demo.db'}"
    printed = _run(tmp_path, "support_desk.py", "--db", url, COLUMNS="120")
    _check("support_desk.py", printed, 120)
    rows = re.findall(r"^\d\d:\d\d:\d\d +\S (\w+) +(\w+)", printed, re.MULTILINE)
    with Governor(url) as governor:
        (session,) = governor.read(newest)
        events = [item.event for item in governor.read(lambda c: [*whole_history(c, session.id)])]
        (report,) = governor.verify()
    decided = [event for event in events if isinstance(event, CallDecided)]
    expected = [(str(event.verdict), event.tool) for event in decided]
    answered = [index for index, event in enumerate(events) if isinstance(event, TicketResolved)]
    asked = [event.approved_by for event in decided if event.ticket_id or event.approved_by]
    assert sorted(row for row in rows if row[0] != "human") == sorted(expected)
    assert (len(answered), asked) == (1, [None, "ann"])
    assert (report.problem, report.in_doubt) == (None, ())
    ended = {event.call_id: event for event in events if isinstance(event, CallFinished)}
    assert {event.call_id for event in decided if event.admitted} == set(ended)
    for event in ended.values():
        assert f"{event.outcome} {event.error_type or ''}".strip() in printed
        assert f"{event.duration_us / 1000:.1f} ms" in printed


def test_demo_starts_afresh_and_its_suggestions_work(tmp_path: Path) -> None:
    """Broken if a second run stumbles over what the first one left, or its reader meets an error in what to try."""
    _run(tmp_path, "support_desk.py")
    _, _, suggested = _run(tmp_path, "support_desk.py").partition("Try next:")
    with Governor(f"sqlite:///{tmp_path / '.interlock/demo.db'}") as governor:
        assert len(governor.read(newest)) == 1
    commands = [line.split() for line in suggested.splitlines() if line.strip()]
    assert [command[1] for command in commands] == ["replay", "replay", "verify", "approvals"]
    for command in commands:
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.strip() != ""


def test_demo_sends_its_traces_where_it_is_told(tmp_path: Path) -> None:
    """Broken if the demo traces nothing for who names a collector, or not as one trace for each run of the agent."""
    with receiving() as received:
        _run(tmp_path, "support_desk.py", OTEL_EXPORTER_OTLP_ENDPOINT=received.url)
    runs = {span.span_id: span for span in received.spans("support_desk")}
    denied = [span for span in received.spans() if span.name == "govern delete_customer [deny]"]

    assert [span.name for span in runs.values()] == ["invoke_agent support-bot"] * 2
    assert len({span.trace_id for span in runs.values()}) == 2
    assert {span.parent_span_id for span in received.spans()} == set(runs)
    assert [attributes(span)["interlock.decision.authors"] for span in denied] == [
        ("policy:support-desk",)
    ]


def test_demo_says_what_it_needs_for_traces(tmp_path: Path) -> None:
    """Broken if who names a collector and lacks the SDK gets no traces and no word, or a stack trace."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['opentelemetry.sdk.trace'] = None", "utf-8"
    )
    ran = subprocess.run(
        [sys.executable, EXAMPLES / "support_desk.py"],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(tmp_path),
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        },
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert re.fullmatch(
        r"OTEL_EXPORTER_OTLP_ENDPOINT is set, and .*opentelemetry\.sdk\.trace.*: "
        r"pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http\n",
        ran.stderr,
    )


def test_demo_prints_where_its_signs_cannot_be_shown(tmp_path: Path) -> None:
    """Broken if the demo fails on a terminal that has no check marks."""
    assert "? allow" in _run(tmp_path, "support_desk.py", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
