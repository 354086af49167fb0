"""The guarded client: where its requests go, on the first hop and on every other, however they are made."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any

import httpx
import pytest

from interlock import Denied, Verdict, egress, governed
from interlock.errors import PluginError, PolicyError
from tests.egress._servers import (
    INTERNAL,
    MODES,
    NAMES,
    PUBLIC,
    Names,
    Pair,
    grant,
    outcome,
    send,
    to,
    url,
)

pytestmark = pytest.mark.parametrize("mode", MODES)


def test_what_is_granted_is_sent(mode: str, pair: Pair) -> None:
    """Broken if the guard changes a request, or sends it with the address in place of the name."""
    grants = [grant(pair, capabilities=["read", "write"])]
    jobs: list[Any] = [
        ("GET", url(pair, "/a%20b/c?q=%2F&x[]=1#f"), {"headers": {"x-a": "b"}}),
        ("POST", url(pair, "/"), {"json": {"amount": 20}}),
    ]
    names = Names(NAMES)
    answers = send(mode, grants, jobs, resolver=names)
    assert [outcome(answer) for answer in answers] == [PUBLIC, PUBLIC]
    first, second = pair.public.seen
    assert (first.method, first.target) == ("GET", "/a%20b/c?q=%2F&x[]=1")
    assert (first.headers["host"], first.headers["x-a"]) == (f"api.example.com:{pair.port}", "b")
    assert (second.method, second.headers["content-length"]) == ("POST", "13")
    assert names.asked == ["api.example.com"]  # both over one connection
    assert first.connection == second.connection


def test_an_international_name_is_what_httpx_makes_of_it(mode: str, pair: Pair) -> None:
    """Broken if a name beyond ASCII is judged in another form than the one in which it is looked up."""
    names = Names({"xn--mnchen-3ya.example": [PUBLIC]})
    job: Any = ("GET", url(pair, host="M\u00fcnchen.example"), {})
    (answer,) = send(mode, [grant(pair, "xn--mnchen-3ya.example")], [job], resolver=names)
    assert (outcome(answer), names.asked) == (PUBLIC, ["xn--mnchen-3ya.example"])


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "where",
    [
        "http://internal.test:{port}/",
        "http://{internal}:{port}/",
        "http://localhost:{port}/",
        "http://api.example.com@internal.test:{port}/",
        "http://internal.test:{port}/#@api.example.com",
        "//internal.test:{port}/",
        "http://api.example.com.internal.test:{port}/",
        "http://api.example.com.:{port}/",
        "http://api.example.com/",
        "https://api.example.com:{port}/",
        "http://2130706434:{port}/",
        "http://0x7f000002:{port}/",
        "http://127.2:{port}/",
        "http://[::ffff:127.0.0.2]:{port}/",
        "http://\uff41pi.example.com.internal.test:{port}/",
        "http://api.example.com:{port}@internal.test:{port}/",
        "ftp://api.example.com:{port}/",
        "file:///etc/hostname",
    ],
)
def test_a_redirect_is_a_request(mode: str, pair: Pair, where: str) -> None:
    """Broken if a granted host can send the client to one that is not granted."""
    target = where.format(port=pair.port, internal=INTERNAL)
    job: Any = ("GET", to(pair, target), {"follow_redirects": True})
    (answer,) = send(mode, [grant(pair)], [job], resolver=Names(NAMES))
    assert isinstance(answer, (Denied, httpx.TransportError, httpx.InvalidURL))
    assert (pair.public.connections, pair.internal.connections) == (1, 0)
    assert isinstance(answer, Denied) or where[:4] in {"ftp:", "file"} or "\uff41" in where
    assert "internal" not in str(answer) or not isinstance(answer, Denied)


def test_a_redirect_to_what_is_granted_is_followed(mode: str, pair: Pair) -> None:
    """Broken if redirects are refused altogether, or their last hop is not checked against its own grant."""
    last = url(pair, "/end", host="www.example.org")
    job: Any = ("GET", to(pair, to(pair, to(pair, last))), {"follow_redirects": True})
    both = [grant(pair), grant(pair, "*.example.org")]
    (answer,) = send(mode, both, [job], resolver=Names(NAMES))
    assert outcome(answer) == PUBLIC
    assert [seen.target.split("?")[0] for seen in pair.public.seen] == ["/to"] * 3 + ["/end"]
    assert pair.public.seen[-1].headers["host"] == f"www.example.org:{pair.port}"
    (answer,) = send(mode, both[:1], [job], resolver=Names(NAMES))
    assert isinstance(answer, Denied)
    assert len(pair.public.seen) == 4 + 3


@pytest.mark.promise(1)
def test_a_redirect_keeps_its_method(mode: str, pair: Pair) -> None:
    """Broken if a redirect that repeats a POST gets it to where only reading is granted."""
    grants = [
        grant(pair, capabilities=["write"], path="/to"),
        grant(pair, capabilities=["read"], path="/in"),
    ]
    jobs: list[Any] = [
        ("POST", to(pair, "/in", status=status), {"follow_redirects": True, "json": {}})
        for status in (307, 308, 303)
    ]
    answers = send(mode, grants, jobs, resolver=Names(NAMES))
    assert [outcome(answer) for answer in answers] == ["Denied", "Denied", PUBLIC]
    methods = [(seen.method, seen.target.split("?")[0]) for seen in pair.public.seen]
    assert methods == [("POST", "/to")] * 3 + [("GET", "/in")]


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "headers",
    [
        [("Host", "internal.test")],
        [("Host", "api.example.com")],  # without the port, it is another authority
        [("Host", "{own}"), ("Host", "internal.test")],
        [("Host", "internal.test"), ("Host", "{own}")],
        [("X-HTTP-Method-Override", "DELETE")],
        [("x-method-override", "PUT")],
        [("X-HTTP-Method", "PATCH")],
    ],
    ids=str,
)
def test_headers_cannot_say_otherwise(mode: str, pair: Pair, headers: Any) -> None:
    """Broken if a header takes an allowed request to another site of the server, or makes it write."""
    own = f"api.example.com:{pair.port}"
    filled = [(name, value.format(own=own)) for name, value in headers]
    job: Any = ("GET", url(pair), {"headers": filled})
    (answer,) = send(mode, [grant(pair)], [job], resolver=Names(NAMES))
    assert isinstance(answer, Denied)
    assert "header" in str(answer)
    assert pair.public.connections == 0


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    ("method", "capability", "said"),
    [
        ("POST", "read", "Denied"),
        ("PUT", "read", "Denied"),
        ("DELETE", "read", "Denied"),
        ("TRACE", "read", "Denied"),
        ("GET", "write", "Denied"),
        ("GET", "fetch", "Denied"),
        ("CONNECT", "write", "Denied"),
        ("connect", "write", "Denied"),
        ("PUT\t", "write", "Denied"),
        ("M-SEARCH", "write", "Denied"),
        ("HEAD", "read", ""),
        ("options", "read", PUBLIC),
        ("DELETE", "write", PUBLIC),
    ],
)
def test_methods_need_their_capability(
    mode: str, pair: Pair, method: str, capability: str, said: str
) -> None:
    """Broken if a grant to read lets a request write, or any grant lets it open a tunnel."""
    grants = [grant(pair, capabilities=[capability])]
    (answer,) = send(mode, grants, [(method, url(pair), {})], resolver=Names(NAMES))
    assert outcome(answer) == said
    assert pair.public.connections == (said != "Denied")


def test_limits_are_kept(mode: str, pair: Pair) -> None:
    """Broken if connections stay open that the host wanted closed."""
    limits = httpx.Limits(max_keepalive_connections=0)
    jobs: list[Any] = [("GET", url(pair), {})] * 2
    answers = send(mode, [grant(pair)], jobs, resolver=Names(NAMES), limits=limits)
    assert [outcome(answer) for answer in answers] == [PUBLIC, PUBLIC]
    assert pair.public.connections == 2


@pytest.mark.promise(1)
def test_extensions_cannot_say_otherwise(mode: str, pair: Pair) -> None:
    """Broken if what httpcore would send instead of the URL's own target is sent."""

    def redirect(name: str, info: dict[str, Any]) -> None:
        info |= {"host": "internal.test"} if name == "connection.connect_tcp.started" else {}

    async def aredirect(name: str, info: dict[str, Any]) -> None:
        redirect(name, info)

    extensions = {
        "target": b"/secret",
        "sni_hostname": "internal.test",
        "trace": redirect if mode == "sync" else aredirect,
    }
    grants = [grant(pair, path="/public")]
    job: Any = ("GET", url(pair, "/public"), {"extensions": extensions})
    (answer,) = send(mode, grants, [job], resolver=Names(NAMES))
    assert outcome(answer) == PUBLIC
    assert [seen.target for seen in pair.public.seen] == ["/public"]


@pytest.mark.promise(1)
def test_a_proxy_from_the_environment_is_not_used(
    mode: str, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken if the environment leads requests to where addresses cannot be checked."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{INTERNAL}:{pair.port}")
    with httpx.Client() as unguarded:
        assert unguarded.get("http://api.example.com/").text == INTERNAL
    before = pair.internal.connections
    (answer,) = send(mode, [grant(pair)], [("GET", url(pair), {})], resolver=Names(NAMES))
    assert outcome(answer) == PUBLIC
    assert (before, pair.internal.connections) == (1, 1)


def test_failures_are_what_httpx_calls_them(mode: str) -> None:
    """Broken if a caller who catches httpx's errors meets another library's."""
    with socket.create_server((PUBLIC, 0)) as silent:
        port = silent.getsockname()[1]
        where = {"host": PUBLIC, "capabilities": ["read"], "schemes": ["http"], "ports": [port]}
        jobs: list[Any] = [("GET", f"http://{PUBLIC}:{port}/", {"timeout": 0.05})]
        (answer,) = send(mode, [where], jobs)
    assert outcome(answer) == "ReadTimeout"
    assert answer.request.url.port == port


@pytest.mark.promise(9)
def test_a_refusal_says_what_and_not_where(mode: str, pair: Pair) -> None:
    """Broken if the text of a refusal, which models are shown, has the URL in it, or its data have not."""
    where = url(pair, "/planted?planted", host="planted.test")
    (answer,) = send(mode, [grant(pair)], [("GET", where, {})], resolver=Names(NAMES))
    assert str(answer) == (
        "The request was not sent: its destination is not granted. Do not retry it."
    )
    assert answer.call.arguments == {"method": "GET", "url": where}
    assert answer.decision.verdict is Verdict.DENY


def test_a_refusal_names_the_call_that_it_was_made_in(mode: str, governor: Any, pair: Pair) -> None:
    """Broken if what was refused inside a tool cannot be told from what is refused elsewhere."""
    calls = []

    @governed(name="fetch")
    def fetch() -> Any:
        (answer,) = send(mode, [grant(pair)], [("GET", url(pair, host="b.test"), {})])
        call = answer.call
        calls.append((call.id, call.session_id, call.identity.agent))
        return call.id

    with governor().session("s", agent="bot") as session:
        call_id = fetch()
    assert calls == [(call_id, session.id, "bot")]
    assert call_id


@pytest.mark.parametrize(
    "option", ["transport", "mounts", "proxy", "trust_env", "cert", "uds", "app"]
)
def test_options_that_lead_round_it_are_refused(mode: str, option: str) -> None:
    """Broken if the client can be told to use another transport, or an option that is not known to be harmless."""
    make = egress.client if mode == "sync" else egress.async_client
    grants = [{"host": "api.example.com", "capabilities": ["read"]}]
    with pytest.raises(TypeError, match=option):
        make(grants, **{option: None})
    with pytest.raises(TypeError, match="verify"):
        make(grants, verify=False)  # type: ignore[arg-type]


def test_a_wrong_grant_is_a_policy_error(mode: str) -> None:
    """Broken if a wrong grant is reported without saying which it is."""
    make = egress.client if mode == "sync" else egress.async_client
    good = {"host": "api.example.com", "capabilities": ["read"]}
    with pytest.raises(PolicyError, match="public suffix") as problem:
        make([good, {**good, "host": "*.com"}])
    assert problem.value.key == "grants.1.host"


def test_without_httpx_the_remedy_is_told(mode: str) -> None:
    """Broken if somebody who has not installed the extra sees a bare ImportError."""
    name = "client" if mode == "sync" else "async_client"
    script = (
        "import sys; sys.modules['httpx'] = None\n"
        "from interlock import egress\n"
        f"try: egress.{name}([])\n"
        "except ImportError as error: print(type(error).__name__, error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith(PluginError.__name__)
    assert "pip install 'interlock[egress]'" in ran.stdout
