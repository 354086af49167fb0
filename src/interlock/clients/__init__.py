"""
Governed clients of model providers: what is the same for every SDK of one generator.

Stainless makes the SDKs of many providers, and all their clients have one frame: whatever method is called, it ends in
the client's `request`, and what the provider answers goes through `_process_response`. What is here stands in those two
places; what is a provider's own, a distribution says in a `Dialect`. No SDK and no HTTP library is imported here.

    dialect      what a provider's distribution has to say
    surfaces     which requests are calls of a model, and what becomes of all others
    request      one request as a call: with what it is judged, and what it will use at most
    sizes        how many tokens something is at most
    client       govern(): a client all of whose requests pass one gate
    exchange     one request and its response, within a governed call
    bodies       responses and streams of the HTTP library that a client uses, without knowing which
    sse          the events of a stream
    canary       calls that must be refused, driven through the SDK's real path
"""

from interlock.clients.canary import sing
from interlock.clients.client import govern
from interlock.clients.dialect import Dialect, Operation
from interlock.clients.sizes import MEDIA, count, is_count, tokens
from interlock.clients.sse import Json, json_in, sse

__all__ = [
    "MEDIA",
    "Dialect",
    "Json",
    "Operation",
    "count",
    "govern",
    "is_count",
    "json_in",
    "sing",
    "sse",
    "tokens",
]
