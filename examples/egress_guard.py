"""One list of grants, two guards: the policy judges the URL that a tool is given, the client where it really leads."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from interlock import Governor, Refused, egress, governed


class Orders(BaseHTTPRequestHandler):
    """A service within the company, one page of which sends its readers to the cloud's metadata service."""

    def do_GET(self) -> None:
        """Answer, or lead astray."""
        is_trap = self.path == "/old"
        self.send_response(302 if is_trap else 200)
        if is_trap:
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
        self.send_header("Content-Length", "8")
        self.end_headers()
        self.wfile.write(b"2 orders")

    def log_message(self, *_: object) -> None:
        """Be quiet."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Orders)
threading.Thread(target=server.serve_forever, daemon=True).start()
port = server.server_port

GRANTS = [
    {
        "host": "orders.corp.example",
        "capabilities": ["read"],
        "schemes": ["http"],
        "ports": [port],
        "addresses": ["127.0.0.0/8"],  # it is a host of our own: a public address would be wrong
    }
]
POLICY = {
    "version": 1,
    "name": "orders",
    "default": "allow",
    "evaluators": [{"use": "egress", "tools": ["fetch"], "with": {"grants": GRANTS}}],
}


def resolve(host: str, _port: int) -> list[str]:
    """Stand in for the company's name server."""
    return {"orders.corp.example": ["127.0.0.1"]}[host]


client = egress.client(GRANTS, resolver=resolve, follow_redirects=True)


@governed(capabilities=["read"])
def fetch(url: str) -> str:
    """Read a page."""
    return client.get(url).text


with (
    client,
    Governor("sqlite://", policy=POLICY) as governor,
    governor.session("ticket-4711", agent="support-bot"),
):
    for url in (
        f"http://orders.corp.example:{port}/",
        f"http://orders.corp.example:{port}@collector.test/",
        f"http://orders.corp.example:{port}/old",
    ):
        try:
            print(fetch(url))
        except Refused as refusal:
            print(refusal)

server.shutdown()
server.server_close()
