"""What is OpenAI's own: said to the part of Interlock that governs clients of this kind."""

from __future__ import annotations

from openai import AsyncOpenAI, OpenAI

from interlock.clients import Dialect
from interlock_openai.answer import LAST, assembled, is_usage, told, usage, written
from interlock_openai.request import estimate, with_usage
from interlock_openai.surfaces import JUDGED, PASSED, SENT, provider_tool

DIALECT = Dialect(
    name="openai",
    clients=(OpenAI, AsyncOpenAI),
    platforms={"Azure": "azure"},
    judged=JUDGED,
    passed=PASSED,
    beside=SENT,
    provider_tool=provider_tool,
    sockets="websocket_base_url",
    estimate=estimate,
    with_usage=with_usage,
    is_usage=is_usage,
    usage=usage,
    told=told,
    last=LAST,
    assembled=assembled,
    written=written,
)
