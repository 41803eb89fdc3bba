"""The daemon in front of upstreams that break, stall, lie and flood, to the last byte of theirs.  Opens sockets."""

from __future__ import annotations

import socket
import zlib

from twisted.internet.task import deferLater

from tests.processes import (
    DEADLINE_SECONDS,
    GENERATE,
    POLL_SECONDS,
    SSE,
    Answer,
    Server,
    SlowReader,
    aistudio,
    head,
    prompt,
    reactor,
    until,
)
from tests.upstreams import ANSWER, EVENT, SSE_HEAD, Asked, Flood, UpstreamCase, chunk, whole

KIB, MIB = 1024, 1024 * 1024


class RoadTests(UpstreamCase):
    """What goes wrong on the way to upstream."""

    async def test_unknown_name_is_503_and_blames_nobody(self) -> None:
        """A host that no resolver knows: 503 at once, and the keys stay usable (C2)."""
        daemon = await self.gateway({"studio": aistudio("https://no-such-host.invalid")})
        for _ in range(3):
            answer = await daemon.ask(GENERATE, prompt())
            self.assertEqual((answer.status, answer.reasons[0]), (503, "UPSTREAM_UNREACHABLE"))
        # The gateway's own agent tells why, once.
        told = daemon.printed.count("no-such-host.invalid:443 cannot be reached: DNS lookup failed")
        self.assertEqual(told, self.agent != "stock")

    async def test_listener_that_accepts_nobody_is_given_up(self) -> None:
        """A full backlog: after ``timeouts.connect`` of nothing another attempt, then 504 (C4)."""
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = socket.socket()
            self.addCleanup(filler.close)
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        daemon = await self.gateway({"studio": aistudio(url, keys=("one", "two"))}, timeouts={"connect": 0.5})
        for target in (GENERATE, SSE):
            answer = await daemon.ask(target, prompt())
            self.assertEqual((answer.status, answer.reasons[0]), (504, "UPSTREAM_CONNECT_TIMEOUT"))
            tried = next(one for one in answer.error["details"] if one.get("reason") == "ATTEMPTS")
            self.assertEqual(len(tried["metadata"]), 2)

    async def test_kept_connection_that_closes_under_a_request_costs_nothing(self) -> None:
        """Upstream closes a kept connection as the next request arrives: it is sent once more, on a new one (C8)."""

        def answer(asked: Asked) -> None:
            if len(asked.heads) > 1 and not asked.heads[-1].startswith(b"GET"):
                asked.say(b"", close=True) if self.gently else asked.say(b"", reset=True)
            else:
                asked.say(whole())

        upstream = self.upstream(answer)
        daemon = await self.gateway({"studio": aistudio(upstream.url)})
        for self.gently in (True, False):
            for _ in range(4):
                self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
        kept = [asked for asked in upstream.connections if len(asked.heads) > 1]
        self.assertGreaterEqual(len(kept), 4, "no connection was kept")

    async def test_kept_connection_that_closed_meanwhile_is_not_used(self) -> None:
        """An idle connection that upstream has closed is forgotten, not tried (C8)."""
        upstream = self.upstream()
        daemon = await self.gateway({"studio": aistudio(upstream.url)})
        for number in range(1, 4):
            self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
            for asked in upstream.connections:
                asked.transport.loseConnection()
            while not all(asked.over for asked in upstream.connections):
                await deferLater(reactor, POLL_SECONDS)
            self.assertEqual(len(upstream.asked), number)


class EarlyTests(UpstreamCase):
    """Answers that do not wait for the request."""

    async def test_early_refusal_is_relayed_and_the_rest_is_not_sent(self) -> None:
        """Upstream refuses at the head of a 32 MiB request: the client sees it, and the connection closes (C17)."""
        body = prompt("x" * 32 * MIB)
        refusal = (
            b'{"error":{"code":413,"message":"Request payload size exceeds the limit.","status":"INVALID_ARGUMENT"}}'
        )
        upstream = self.upstream()

        def refuse(asked: Asked) -> None:
            asked.transport.pauseProducing()
            asked.say(whole(refusal, b"413 Request Entity Too Large"))

        upstream.early = refuse
        daemon = await self.gateway({"studio": aistudio(upstream.url)})
        answer = await daemon.ask(GENERATE, body)
        self.assertEqual((answer.status, answer.whole), (413, True))
        self.assertEqual(answer.error["message"], "Request payload size exceeds the limit.")
        (asked,) = [one for one in upstream.connections if any(line.startswith(b"POST") for line in one.heads)]
        asked.transport.resumeProducing()
        deadline = reactor.seconds() + DEADLINE_SECONDS
        while not asked.over:
            self.assertLess(reactor.seconds(), deadline, "the connection stays open")
            await deferLater(reactor, POLL_SECONDS)
        self.assertLess(asked.received, len(body))


class FloodTests(UpstreamCase):
    """Upstreams that send without end."""

    async def grown(self, daemon: Server, target: str, limit_mib: float) -> Answer:
        """Ask, and hold the growth of the daemon's memory against a limit."""
        before = daemon.peak_rss()
        answer = await daemon.ask(target, prompt())
        grown = (daemon.peak_rss() - before) / MIB
        print(f"\n{target}: the daemon's memory grew by {grown:.1f} MiB")
        self.assertLess(grown, limit_mib)
        return answer

    async def test_endless_line_is_held_up_to_the_limit(self) -> None:
        """100 MB in one line, or in one piece: refused, at ``limits.event`` and 2 MiB more (C12)."""
        upstream = self.upstream()
        daemon = await self.gateway({"studio": aistudio(upstream.url)}, limits={"event": 8 * MIB})
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
        flood: list[Flood] = []

        def endless(asked: Asked) -> None:
            kind = b"text/event-stream" if b"alt=sse" in asked.heads[-1] else b"application/json"
            asked.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: %s\r\n\r\n" % kind)
            asked.say(chunk(b'data: {"a":"'))
            flood.append(Flood(asked, chunk(b"x" * 64 * KIB), 1600))

        upstream.answer = endless
        for target in (SSE, GENERATE):
            answer = await self.grown(daemon, target, 8 + 2)
            self.assertEqual((answer.status, answer.reasons[0]), (502, "UPSTREAM_TOO_LARGE"))
        self.assertTrue(all(one.sent < 16 * MIB for one in flood))

    async def test_bomb_is_refused_at_its_head(self) -> None:
        """Ten gigabytes in ten megabytes of gzip, for a stream and in one piece: 502 at once, unread (C15)."""
        pack = zlib.compressobj(wbits=31)
        begin, piece = (pack.compress(bytes(MIB)) + pack.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
        self.assertEqual(len(zlib.decompressobj(31).decompress(begin + 3 * piece)), 4 * MIB)
        upstream = self.upstream()
        daemon = await self.gateway({"studio": aistudio(upstream.url)})
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
        flood: list[Flood] = []

        def bomb(asked: Asked) -> None:
            kind = b"text/event-stream" if b"alt=sse" in asked.heads[-1] else b"application/json"
            asked.say(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Encoding: gzip\r\n" % kind)
            asked.say(b"Transfer-Encoding: chunked\r\n\r\n" + chunk(begin))
            flood.append(Flood(asked, chunk(piece), 10 * KIB))

        upstream.answer = bomb
        for target in (SSE, GENERATE):
            answer = await self.grown(daemon, target, 16)
            self.assertEqual((answer.status, answer.reasons[0]), (502, "UPSTREAM_ENCODED"))

    async def test_upstream_that_floods_waits_for_its_client(self) -> None:
        """A stream of a gigabyte to a client that hardly reads: upstream stands still, memory does not grow (C18)."""
        upstream = self.upstream()
        daemon = await self.gateway({"studio": aistudio(upstream.url)})
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
        flood: list[Flood] = []

        def stream(asked: Asked) -> None:
            asked.say(SSE_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(EVENT))
            flood.append(Flood(asked, chunk(EVENT * 400), 20_000))

        upstream.answer = stream
        # With the first request's row SQLite is loaded, which is no stream's.
        await until((self.home / f"state-{daemon.port}" / "usage.db").exists)
        before = daemon.rss()
        reader = SlowReader(daemon.port, head(SSE, prompt()) + prompt())
        self.addCleanup(reader.close)
        sent = -1
        while not flood or flood[0].sent != sent:
            sent = flood[0].sent if flood else -1
            reader.take(KIB)
            await deferLater(reactor, 0.5)
        print(f"\nupstream stands still after {sent // KIB} KiB; memory grew by {(daemon.rss() - before) // KIB} KiB")
        self.assertLess(daemon.peak_rss() - before, 2 * MIB)
        self.assertLess(sent, 16 * MIB)


class StatusTests(UpstreamCase):
    """Statuses that no answer of a model has."""

    async def test_interim_answers_are_swallowed(self) -> None:
        """100 and 103 before the answer are not the answer, and their fields are nobody's (U15)."""
        interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\nX-Evil: 1\r\n\r\n"
        upstream = self.upstream(lambda asked: asked.say(interim + whole()))
        daemon = await self.gateway({"studio": aistudio(upstream.url)})
        answer = await daemon.ask(GENERATE, prompt())
        self.assertEqual((answer.status, answer.body), (200, ANSWER))
        self.assertNotIn("x-evil", answer.headers)

    async def test_senseless_statuses_are_502(self) -> None:
        """201, 204, 205, 206 and 304: the gateway's 502, and the next request is well (U15)."""
        said: list[bytes] = []
        upstream = self.upstream(lambda asked: asked.say(said.pop() if said else whole()))
        daemon = await self.gateway({"studio": aistudio(upstream.url)})
        for status in (
            b"204 No Content",
            b"205 Reset Content",
            b"206 Partial Content",
            b"304 Not Modified",
            b"201 Created",
        ):
            bodyless = status[:3] in (b"204", b"304")
            said.append(b"HTTP/1.1 %s\r\n\r\n" % status if bodyless else whole(ANSWER, status))
            answer = await daemon.ask(GENERATE, prompt())
            self.assertEqual((answer.status, answer.headers["x-antigravity-origin"]), (502, "gateway"), status)
            self.assertEqual((await daemon.ask(GENERATE, prompt())).body, ANSWER)


class StockRoadTests(RoadTests):
    """The same through Twisted's own agent."""

    agent = "stock"


class StockFloodTests(FloodTests):
    """The same through Twisted's own agent."""

    agent = "stock"


class StockStatusTests(StatusTests):
    """The same through Twisted's own agent."""

    agent = "stock"
