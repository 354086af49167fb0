"""
Interlock for the Model Context Protocol.

`interlock mcp --policy policy.yaml -- COMMAND` puts a governing proxy before any server, for any client. `govern` does
the same in a client's session and `govern_server` in a server of one's own; `canary` proves that they do.
"""

from interlock_mcp.canary import canary
from interlock_mcp.catalogue import Catalogue
from interlock_mcp.proxy import Proxy
from interlock_mcp.wrappers import govern, govern_server

__all__ = ["Catalogue", "Proxy", "canary", "govern", "govern_server"]
