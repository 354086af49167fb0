"""
Every name that telemetry puts on the wire.

Source of the `gen_ai.*` names: OpenTelemetry semantic conventions for generative AI, status "development", read in
August 2026. `openinference.span.kind` is OpenInference's; Phoenix, MLflow and Langfuse draw their icons from it.
"""

from __future__ import annotations

SCOPE = "interlock"

CALL_ID = "interlock.call.id"
CALL_NAME = "interlock.call.name"
CALL_KIND = "interlock.call.kind"
CALL_OUTCOME = "interlock.call.outcome"
WITHHELD_BY = "interlock.result.withheld_by"
REDACTED_BY = "interlock.result.redacted_by"
SESSION_ID = "interlock.session.id"
VERDICT = "interlock.decision.verdict"
ADMITTED = "interlock.decision.admitted"
AUTHORS = "interlock.decision.authors"
MODE = "interlock.mode"
RULE_ID = "interlock.policy.rule.id"
POLICY_NAME = "interlock.policy.name"
POLICY_DIGEST = "interlock.policy.digest"
EVENT_ID = "interlock.event.id"
EVENT_SEQ = "interlock.event.seq"
CHAIN_HEAD = "interlock.chain.head"
TICKET_ID = "interlock.ticket.id"
NOTE = "interlock.note"
NOTE_NAME = "interlock.note.name"
UNDECIDED = "undecided"

AGENT_NAME = "gen_ai.agent.name"
CONVERSATION_ID = "gen_ai.conversation.id"
OPERATION_NAME = "gen_ai.operation.name"
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
ERROR_TYPE = "error.type"
OPENINFERENCE_KIND = "openinference.span.kind"

DECISION_EVENT = "interlock.decision"
DECISION_DURATION = "interlock.decision.duration"

CHAT = "chat"
EXECUTE_TOOL = "execute_tool"

REQUEST_MODEL = "gen_ai.request.model"
PROVIDER_NAME = "gen_ai.provider.name"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
COST = "interlock.call.cost_usd"
