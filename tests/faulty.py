"""twistd with a fault put into the gateway: whoever says BREAK in a prompt is answered by one of ours.  Does I/O.

The fault holds all that a traceback could show: a request's call, what goes upstream, the token, and the client's own
head, in the exception and in the frames' variables.
"""

from __future__ import annotations

import sys
from typing import Any, cast

from twisted.scripts.twistd import run

from gateway.edge.gate import Admitted, Gate, Head
from gateway.routing.asking import Asker

_ask = Asker.ask
_judge = Gate.judge


async def ask(self: Asker, call: Any, member: Any, request: Any, *more: Any) -> Any:
    """Fail in the middle of the way."""
    if b"BREAK" in call.body:
        prompt, headers = call.body, request.headers
        raise ZeroDivisionError(call, member.credential, request, len(prompt), len(headers))
    return await _ask(self, call, member, request, *more)


def judge(self: Gate, head: Head) -> Admitted:
    """Fail at the door."""
    if b"/break" in head.path:
        keys = head.keys
        raise ZeroDivisionError(len(keys), head)
    return _judge(self, head)


if __name__ == "__main__":
    cast(Any, Asker).ask = ask
    cast(Any, Gate).judge = judge
    sys.argv[0] = "twistd"
    run()
