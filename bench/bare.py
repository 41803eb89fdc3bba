"""The baseline: a relay of Klein, treq and json, as one would write it first.  Does I/O.

It checks the client's key, reads model and verb from the path, wraps the body into the v1internal
envelope, forwards it, unwraps the answer, and passes a stream on event by event.  No retries, no pool of
credentials, no limits, no log of requests but its server's own.  The one thing it owes to experience is a
connection pool that keeps more than Twisted's two connections per host, and answers that treq does not buffer:
without these the comparison would be with connecting, not with relaying.  With ``--defaults`` it owes nothing.
"""

from __future__ import annotations

import argparse
import hmac
import json
import sys
import uuid

import shapes
import treq
from klein import Klein
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IRequest
from twisted.web.server import Site


class Relay:
    """The routes and what they need."""

    app = Klein()

    def __init__(self, client: HTTPClient, upstream: str, unbuffered: bool) -> None:
        self._client = client
        self._upstream = upstream
        self._unbuffered = unbuffered

    @app.route("/v1beta/models/<path:call>", methods=["POST"])
    async def relay(self, request: IRequest, call: str) -> bytes:
        """Forward one call."""
        request.setHeader("Content-Type", "application/json")
        key = request.getHeader("x-goog-api-key") or ""
        if not hmac.compare_digest(key.encode(), shapes.CLIENT_KEY.encode()):
            return self._error(request, 401, "no valid key")
        model, _, verb = call.rpartition(":")
        if verb not in ("generateContent", "streamGenerateContent"):
            return self._error(request, 404, "no such method")
        try:
            body = json.loads(request.content.read())
        except ValueError:
            return self._error(request, 400, "the body is not JSON")
        envelope = {
            "project": "bench-project",
            "requestId": str(uuid.uuid4()),
            "model": model,
            "userAgent": "bare/1.0",
            "requestType": "agent",
            "request": body,
        }
        streams = verb == "streamGenerateContent"
        response = await self._client.post(
            f"{self._upstream}:{verb}" + ("?alt=sse" if streams else ""),
            data=json.dumps(envelope).encode(),
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Bearer {shapes.UPSTREAM_TOKEN}",
            },
            unbuffered=self._unbuffered,
        )
        if response.code != 200:
            request.setResponseCode(response.code)
            return await treq.content(response)
        if not streams:
            answer = json.loads(await treq.content(response))
            return json.dumps(answer.get("response", answer)).encode()
        request.setHeader("Content-Type", "text/event-stream")
        buffer = b""

        def received(data: bytes) -> None:
            nonlocal buffer
            *events, buffer = (buffer + data).replace(b"\r\n", b"\n").split(b"\n\n")
            for event in events:
                value = json.loads(event.removeprefix(b"data: "))
                request.write(b"data: " + json.dumps(value.get("response", value)).encode() + b"\n\n")

        await treq.collect(response, received)
        return b""

    @staticmethod
    def _error(request: IRequest, status: int, message: str) -> bytes:
        """Answer in Google's shape."""
        request.setResponseCode(status)
        return json.dumps({"error": {"code": status, "message": message}}).encode()


def main() -> None:
    """Listen on loopback, say on which port, and serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--upstream", required=True, help="for instance http://127.0.0.1:9000/v1internal")
    parser.add_argument("--defaults", action="store_true", help="leave treq's client as it comes")
    options = parser.parse_args()
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    pool = HTTPConnectionPool(reactor)
    if not options.defaults:
        pool.maxPersistentPerHost = 1000
    relay = Relay(HTTPClient(Agent(reactor, pool=pool)), options.upstream, not options.defaults)
    port = reactor.listenTCP(options.port, Site(relay.app.resource()), backlog=1024, interface="127.0.0.1")
    print(f"listening on {port.getHost().port}", flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
