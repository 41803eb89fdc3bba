"""A relay of aiohttp and uvloop that does what bench/bare.py does.  Does I/O.

It runs in an environment of its own and so imports nothing of the bench.
"""

from __future__ import annotations

import argparse
import hmac
import json
import uuid

import uvloop
from aiohttp import ClientSession, TCPConnector, web

_VERBS = ("generateContent", "streamGenerateContent")


class Relay:
    """One handler and what it needs."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._session: ClientSession | None = None

    async def start(self, app: web.Application) -> None:
        """Open the session, which needs a running loop."""
        self._session = ClientSession(connector=TCPConnector(limit=0))

    async def relay(self, request: web.Request) -> web.StreamResponse:
        """Forward one call."""
        assert self._session is not None
        if not hmac.compare_digest(request.headers.get("x-goog-api-key", ""), self._options.key):
            return web.json_response({"error": {"code": 401, "message": "no valid key"}}, status=401)
        model, _, verb = request.match_info["call"].rpartition(":")
        if verb not in _VERBS:
            return web.json_response({"error": {"code": 404, "message": "no such method"}}, status=404)
        envelope = {
            "project": "bench-project",
            "requestId": str(uuid.uuid4()),
            "model": model,
            "userAgent": "aiohttp-relay/1.0",
            "requestType": "agent",
            "request": json.loads(await request.read()),
        }
        streams = verb == "streamGenerateContent"
        url = f"{self._options.upstream}:{verb}" + ("?alt=sse" if streams else "")
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._options.token}"}
        async with self._session.post(url, data=json.dumps(envelope).encode(), headers=headers) as response:
            if response.status != 200:
                return web.Response(status=response.status, body=await response.read())
            if not streams:
                answer = json.loads(await response.read())
                body = json.dumps(answer.get("response", answer)).encode()
                return web.Response(body=body, content_type="application/json")
            out = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await out.prepare(request)
            buffer = b""
            async for data in response.content.iter_any():
                *events, buffer = (buffer + data).replace(b"\r\n", b"\n").split(b"\n\n")
                for event in events:
                    value = json.loads(event.removeprefix(b"data: "))
                    await out.write(b"data: " + json.dumps(value.get("response", value)).encode() + b"\n\n")
            await out.write_eof()
            return out


def main() -> None:
    """Listen on loopback and serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("upstream", "key", "token"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    uvloop.install()
    relay = Relay(options)
    app = web.Application(client_max_size=100 << 20)
    app.on_startup.append(relay.start)
    app.router.add_post("/v1beta/models/{call:.+}", relay.relay)
    web.run_app(app, host="127.0.0.1", port=options.port, backlog=4096, access_log=None, print=None)


if __name__ == "__main__":
    main()
