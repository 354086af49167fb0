"""The canary passes what every canary of a client has to pass."""

from __future__ import annotations

from tests.clients.canaries import CanarySuite


class TestCanary(CanarySuite):
    """What holds of every canary."""
