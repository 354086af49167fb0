"""What is Anthropic's own: said to the part of Interlock that governs clients of this kind."""

from __future__ import annotations

from anthropic._base_client import AsyncAPIClient, SyncAPIClient

from interlock.clients import Dialect
from interlock_anthropic.answer import LAST, assembled, told, usage, written
from interlock_anthropic.request import estimate
from interlock_anthropic.surfaces import JUDGED, PASSED, RUNNERS, SENT, provider_tool

DIALECT = Dialect(
    name="anthropic",
    clients=(SyncAPIClient, AsyncAPIClient),
    platforms={
        "Bedrock": "aws",
        "AWS": "aws",
        "Vertex": "google",
        "Google": "google",
        "Foundry": "azure",
    },
    judged=JUDGED,
    passed=PASSED,
    root="/v1",
    beside=SENT,
    runners=RUNNERS,
    provider_tool=provider_tool,
    is_prepared=True,
    estimate=estimate,
    usage=usage,
    told=told,
    last=LAST,
    assembled=assembled,
    written=written,
)
