"""twistd with a fault put into the gateway: whoever says BREAK in a prompt is answered by one of ours.  Does I/O.

The fault holds all that a traceback could show: a request's call, what goes upstream, the token, and the client's own
head, in the exception and in the frames' variables.
"""

from __future__ import annotations

import sys
from typing import Any, cast

from twisted.scripts.twistd import run

from gateway.edge.request import GatewayRequest
from gateway.routing.asking import Asker

_ask = Asker.ask
_render = GatewayRequest.render


async def ask(self: Asker, call: Any, member: Any, request: Any, seconds: float, uses: Any) -> Any:
    """Fail in the middle of the way."""
    if b"BREAK" in call.body:
        prompt, headers = call.body, request.headers
        raise ZeroDivisionError(call, member.credential, request, len(prompt), len(headers))
    return await _ask(self, call, member, request, seconds, uses)


def render(self: GatewayRequest, tree: Any) -> None:
    """Fail at the edge."""
    keys = self.requestHeaders.getRawHeaders(b"x-goog-api-key", [])
    if b"/break" in self.path:
        raise ZeroDivisionError(len(keys), self._head(0))
    _render(self, tree)


cast(Any, Asker).ask = ask
cast(Any, GatewayRequest).render = render

if __name__ == "__main__":
    sys.argv[0] = "twistd"
    run()
