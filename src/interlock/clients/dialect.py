"""What a provider's distribution has to say, so that its SDK's clients can be governed."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from interlock._usage import Usage
from interlock.clients.sse import Event, Json
from interlock.errors import Misuse

log = logging.getLogger("interlock")


class Operation(msgspec.Struct, frozen=True):
    """
    What a request to one endpoint is.

    Attributes:
        name: What rules, budgets and events call it: the operation of OpenTelemetry's conventions where it has one.
        is_free: Whether the provider takes nothing for it, so that only what it sends is to be judged.
    """

    name: str
    is_free: bool = False


def _as_it_is(operation: Operation, body: Json) -> tuple[Json, bool]:  # noqa: ARG001 - for those who want it
    return body, False


def _never(data: Json) -> bool:  # noqa: ARG001 - for those who want it
    return False


class Dialect(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """
    What is one provider's own.

    Attributes:
        name: The SDK's package. The provider is called the same, and the distribution `interlock-` and this.
        clients: The SDK's classes of sync and of async clients.
        platforms: Whose models a client of another platform asks for, by a part of its class's name.
        judged: By path, what a POST is judged as. A path that is not here is refused, so that what a release of the SDK
            adds is not let through because nobody has thought of it.
        passed: The paths that a GET may ask for without being judged: they cost nothing and send nothing.
        root: What paths begin with that a client's base URL leaves out.
        beside: By field of a request, the name of what it has the provider do beside the model.
        runners: By the name that the SDK gives a helper of its own in the header of a request, the name by which it is
            accepted: one that runs the functions that a model calls.
        provider_tool: Says by which name one of a request's `tools` is accepted; None where the caller runs it.
        sockets: What a client is asked for before it opens a connection that is no request; None: it opens none.
        is_prepared: Whether `request` changes what it is given before it is sent, so that the outcome is judged.
        estimate: Says what a request will use at most, of its body and what the host assumes.
        with_usage: Returns the body such that a stream tells its usage, and whether its caller did not ask for that.
        is_usage: Says whether an event of a stream is there for the usage only.
        usage: Makes a Usage of what the provider tells; a Misuse that it raises says that this cannot be.
        told: Returns what an event of a stream tells of the usage so far, for `usage`; None where it tells nothing.
            What is not known before the end is left out of what is told earlier.
        last: The types of the events that end an answer.
        assembled: Puts an answer together from what the events of its stream say, in the form that it would have
            without streaming; what is no stream of the protocol is returned as it is.
        written: Writes an answer as a stream again; returns None where it is none of the protocol.
    """

    name: str
    clients: tuple[type[Any], type[Any]]
    judged: Mapping[str, Operation]
    passed: re.Pattern[str]
    beside: Mapping[str, str]
    provider_tool: Callable[[object], str | None]
    estimate: Callable[[Operation, Json, Usage], Usage]
    usage: Callable[[Mapping[str, Any]], Usage]
    told: Callable[[Json], object]
    last: frozenset[str]
    assembled: Callable[[Sequence[Json]], Any]
    written: Callable[[Json], bytes | None]
    platforms: Mapping[str, str] = {}
    runners: Mapping[str, str] = {}
    root: str = ""
    sockets: str | None = None
    is_prepared: bool = False
    with_usage: Callable[[Operation, Json], tuple[Json, bool]] = _as_it_is
    is_usage: Callable[[Json], bool] = _never

    def provider(self, client: object) -> str:
        """Return whose models *client* asks for."""
        names = [kind.__name__ for kind in type(client).__mro__]
        found = [whose for part, whose in self.platforms.items() if any(part in n for n in names)]
        return found[0] if found else self.name

    def is_last(self, event: Event) -> bool:
        """Return whether *event* ends the answer."""
        return event.is_done or (event.data is not None and event.data.get("type") in self.last)

    def used_by(self, answer: object) -> Usage | None:
        """Return the usage that *answer* tells; None where it tells none, or one that cannot be."""
        found = answer.get("usage") if isinstance(answer, Mapping) else None
        if not isinstance(found, Mapping):
            return None
        try:
            return self.usage(found)
        except Misuse:
            log.warning("the provider tells a usage that cannot be; it is booked as not known")
            return None


class Tally:
    """The usage that a stream tells, of which later events may know more than earlier ones."""

    def __init__(self, dialect: Dialect) -> None:
        """Begin with nothing."""
        self._dialect = dialect
        self._told: Json = {}

    def add(self, event: Event) -> None:
        """Take what *event* says of it."""
        told = None if event.data is None else self._dialect.told(event.data)
        if isinstance(told, Mapping):
            self._told |= {key: value for key, value in told.items() if value is not None}

    def used(self, output_tokens: int | None = None) -> Usage | None:
        """Return it; *output_tokens* stands in for what was written where that was not told."""
        found = self._dialect.used_by({"usage": self._told}) if self._told else None
        if found is None or found.output_tokens is not None:
            return found
        return msgspec.structs.replace(found, output_tokens=output_tokens, reasoning_tokens=None)
