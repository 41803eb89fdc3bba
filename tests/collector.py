"""A collector of traces that speaks OTLP over HTTP as it is specified, and keeps what it is sent.  Listens."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.processes import reactor, until

PROTOBUF = b"application/x-protobuf"


def value(any_value: Any) -> Any:
    """An AnyValue as Python has it."""
    kind = any_value.WhichOneof("value")
    found = getattr(any_value, kind)
    return tuple(value(one) for one in found.values) if kind == "array_value" else found


def attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: value(pair.value) for pair in pairs}


class Collector(Resource):
    """Takes spans on ``/v1/traces``, and says so; with a ``status`` it refuses them."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[Any] = []
        self.resources: list[dict[str, Any]] = []
        self.bodies = b""
        self.heads: list[dict[str, str]] = []
        self.status = 200
        self.elsewhere = ""
        """Where it sends whoever it refuses."""
        self.port = reactor.listenTCP(0, Site(self), interface="127.0.0.1")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port.getHost().port}"

    def render_POST(self, request: Any) -> bytes:
        self.heads.append({"path": request.path.decode(), **{
            name.decode().lower(): values[-1].decode() for name, values in request.requestHeaders.getAllRawHeaders()
        }})  # fmt: skip
        request.setResponseCode(self.status)
        if self.status != 200:
            request.setHeader(b"location", self.elsewhere.encode())
            return b""
        body = request.content.read()
        self.bodies += body
        message = ExportTraceServiceRequest.FromString(body)
        for resource_spans in message.resource_spans:
            self.resources.append(attributes(resource_spans.resource.attributes))
            for scope_spans in resource_spans.scope_spans:
                self.spans.extend(scope_spans.spans)
        request.setHeader(b"content-type", PROTOBUF)
        answer: bytes = ExportTraceServiceResponse().SerializeToString()
        return answer

    async def has(self, count: int) -> None:
        """Wait for so many spans."""
        await until(lambda: len(self.spans) >= count)

    def named(self, name: str) -> list[Any]:
        """The spans of a name."""
        return [span for span in self.spans if span.name == name]
