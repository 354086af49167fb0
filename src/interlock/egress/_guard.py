"""Guard: may this request be sent? Asked for each request, redirects included, with what is going to be sent."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from interlock._call import Identity, Tool, describe
from interlock._scope import current_call
from interlock._verdict import Opinion, Verdict, combine
from interlock.errors import Denied
from interlock.evaluators._grants import Grant, Grants, capability_of
from interlock.evaluators._url import PORTS, Destination, Unclear, parse

_TOOL = Tool(name="interlock.egress", resource="url")
_OVERRIDES = frozenset({b"x-http-method", b"x-http-method-override", b"x-method-override"})


class Pass(msgspec.Struct, frozen=True):
    """Leave to send one request, to there and under this grant."""

    destination: Destination
    grant: Grant


class Guard:
    """The judge of all requests of one client."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        """Index *grants*."""
        self._grants = Grants(grants)

    def admit(self, method: str, url: str, headers: Iterable[tuple[bytes, bytes]]) -> Pass:
        """
        Return where the request is to be sent, which is all that the caller may go by.

        Raises:
            Denied: it must not be sent.
        """
        try:
            destination = parse(url)
        except Unclear as error:
            raise denied(f"its URL cannot be judged: {error}", method, url) from None
        capability = capability_of(method)
        if capability is None:
            raise denied("its method cannot be granted", method, url)
        if objection := _header_objection(headers, destination):
            raise denied(objection, method, url)
        grant = self._grants.find(destination, frozenset({capability}))
        if isinstance(grant, str):
            raise denied(grant, method, url)
        return Pass(destination, grant)


def denied(reason: str, method: str, url: str) -> Denied:
    """Return the refusal of a request; its text holds neither *method* nor *url*."""
    outer = current_call()
    call, _ = describe(
        _TOOL,
        {"method": method, "url": url},
        call_id="" if outer is None else outer.id,
        session_id="" if outer is None else outer.session_id,
        identity=Identity(agent="") if outer is None else outer.identity,
    )
    opinion = Opinion(verdict=Verdict.DENY, reason=reason, author="interlock.egress")
    message = f"The request was not sent: {reason}. Do not retry it."
    return Denied(message, decision=combine([opinion]), call=call)


def _header_objection(
    headers: Iterable[tuple[bytes, bytes]], destination: Destination
) -> str | None:
    """What is wrong with *headers*, if anything: they must not say that another host or method is meant."""
    hosts = []
    for name, value in headers:
        if name.lower() == b"host":
            hosts.append(value.lower().decode("ascii", "replace"))
        elif name.lower() in _OVERRIDES:
            return "a header of it says that another method is meant"
    names = {f"{destination.host}:{destination.port}"}
    if destination.port == PORTS[destination.scheme]:
        names.add(destination.host)
    if len(hosts) == 1 and hosts[0] in names:
        return None
    return "its Host header is missing, doubled, or names another host"
