"""The kill switch: stop an organisation's agents while they work, and let them go on; then the policy stops one."""

from __future__ import annotations

import tempfile
from pathlib import Path

from interlock import Governor, governed
from interlock.errors import HaltedError, Refused

POLICY = {
    "version": 1,
    "name": "mail",
    "default": "allow",
    "rules": [{"id": "no-spam", "tools": ["send_to_all"], "verdict": "deny"}],
    "halts": [{"after_refusals": 2, "halt": "agent"}],
}


@governed
def send(to: str) -> str:
    """Send a letter."""
    return f"sent to {to}"


@governed
def send_to_all(text: str) -> str:
    """Send a letter to everybody."""
    return f"sent to all: {text}"


def main() -> None:
    """Send, halt, try again, release, send; then hammer on."""
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{Path(directory) / 'interlock.db'}"
        with Governor(url, policy=POLICY) as governor:
            acme = governor.session("ticket-1", agent="support-bot", org="acme")
            other = governor.session("ticket-2", agent="support-bot", org="globex")
            with acme:
                print(send("ann"))
                done = governor.halt(org="acme", reason="letters went astray", by="on-call")
                try:
                    send("bob")
                except HaltedError as halted:
                    print(halted)
                with other:
                    print(send("eve"))
                governor.release(done.halt.id, reason="addresses repaired", by="on-call")
                print(send("bob"))
                for _ in range(3):
                    try:
                        send_to_all("buy")
                    except Refused as refused:
                        print(refused)


if __name__ == "__main__":
    main()
