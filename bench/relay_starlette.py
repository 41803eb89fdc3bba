"""A relay of Starlette, httpx and uvicorn that does what bench/bare.py does.  Does I/O.

It runs in an environment of its own and so imports nothing of the bench.
"""

from __future__ import annotations

import argparse
import contextlib
import hmac
import json
import uuid
from collections.abc import AsyncIterator

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

_VERBS = ("generateContent", "streamGenerateContent")


class Relay:
    """One handler and what it needs."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.AsyncClient(limits=limits, timeout=120)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Close the client in the end."""
        yield
        await self._client.aclose()

    async def relay(self, request: Request) -> Response:
        """Forward one call."""
        if not hmac.compare_digest(request.headers.get("x-goog-api-key", ""), self._options.key):
            return JSONResponse({"error": {"code": 401, "message": "no valid key"}}, 401)
        model, _, verb = request.path_params["call"].rpartition(":")
        if verb not in _VERBS:
            return JSONResponse({"error": {"code": 404, "message": "no such method"}}, 404)
        envelope = {
            "project": "bench-project",
            "requestId": str(uuid.uuid4()),
            "model": model,
            "userAgent": "starlette-relay/1.0",
            "requestType": "agent",
            "request": json.loads(await request.body()),
        }
        streams = verb == "streamGenerateContent"
        outgoing = self._client.build_request(
            "POST",
            f"{self._options.upstream}:{verb}" + ("?alt=sse" if streams else ""),
            content=json.dumps(envelope).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self._options.token}"},
        )
        response = await self._client.send(outgoing, stream=streams)
        if response.status_code != 200:
            return Response(await response.aread(), response.status_code)
        if not streams:
            answer = json.loads(response.content)
            return Response(json.dumps(answer.get("response", answer)), media_type="application/json")
        return StreamingResponse(self._events(response), media_type="text/event-stream")

    @staticmethod
    async def _events(response: httpx.Response) -> AsyncIterator[bytes]:
        """Unwrap one event after the other."""
        buffer = b""
        try:
            async for data in response.aiter_raw():
                *events, buffer = (buffer + data).replace(b"\r\n", b"\n").split(b"\n\n")
                for event in events:
                    value = json.loads(event.removeprefix(b"data: "))
                    yield b"data: " + json.dumps(value.get("response", value)).encode() + b"\n\n"
        finally:
            await response.aclose()


def main() -> None:
    """Listen on loopback and serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("upstream", "key", "token"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    relay = Relay(options)
    route = Route("/v1beta/models/{call:path}", relay.relay, methods=["POST"])
    uvicorn.run(
        Starlette(routes=[route], lifespan=relay.lifespan),
        host="127.0.0.1",
        port=options.port,
        backlog=4096,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
