"""Answers that no honest server sends, judged beside h11, through the real daemon.  Opens sockets."""

from __future__ import annotations

from tests.processes import GENERATE, SSE, Answer, Server, aistudio, prompt
from tests.second_opinion import judged
from tests.upstreams import ANSWER, EVENT, Asked, UpstreamCase, chunk, whole

MIB = 1024 * 1024
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(ANSWER)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LAST = b"0\r\n\r\n"
EVIL = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"evil":'

BODIES: dict[str, bytes] = {
    # What is not whole, or no chunk.
    "chunk cut short": OK + CHUNKED + b"\r\n" + chunk(ANSWER)[:-9],
    "no last chunk": OK + CHUNKED + b"\r\n" + chunk(ANSWER),
    "last chunk without its end": OK + CHUNKED + b"\r\n" + chunk(ANSWER) + b"0\r\n",
    "length longer than the body": OK + b"Content-Length: %d\r\n\r\n" % (len(ANSWER) + 1) + ANSWER,
    "chunk longer than its size": OK + CHUNKED + b"\r\n" + b"%x\r\n" % (len(ANSWER) - 1) + ANSWER + b"\r\n" + LAST,
    "chunk size that is none": OK + CHUNKED + b"\r\n" + b"xyz\r\n" + ANSWER + b"\r\n" + LAST,
    "chunk size with a sign": OK + CHUNKED + b"\r\n" + b"+%x\r\n" % len(ANSWER) + ANSWER + b"\r\n" + LAST,
    "negative chunk size": OK + CHUNKED + b"\r\n" + b"-1\r\n" + ANSWER + b"\r\n" + LAST,
    "chunk size with 0x": OK + CHUNKED + b"\r\n" + b"0x%x\r\n" % len(ANSWER) + ANSWER + b"\r\n" + LAST,
    "chunk size over 64 bits": OK + CHUNKED + b"\r\n1" + b"%017x\r\n" % len(ANSWER) + ANSWER + b"\r\n" + LAST,
    "chunk size of a thousand digits": OK + CHUNKED + b"\r\n" + b"f" * 1000 + b"\r\n" + ANSWER,
    "empty chunk size": OK + CHUNKED + b"\r\n" + b"\r\n" + ANSWER + b"\r\n" + LAST,
    "chunk without its line end": OK + CHUNKED + b"\r\n" + b"%x\r\n" % len(ANSWER) + ANSWER + LAST,
    "garbage instead of chunks": OK + CHUNKED + b"\r\n" + b"\x00\xff" * 40,
    "chunk extension without end": OK + CHUNKED + b"\r\n" + b"%x;" % len(ANSWER) + b"x" * MIB,
}  # fmt: skip

HEADS: dict[str, bytes] = {
    # What leaves open where the body ends.
    "both length and chunks": OK + LENGTH + CHUNKED + b"\r\n" + chunk(ANSWER) + LAST,
    "two lengths": OK + LENGTH + b"Content-Length: 5\r\n\r\n" + ANSWER,
    "two lengths in one field": OK + b"Content-Length: %d, 5\r\n\r\n" % len(ANSWER) + ANSWER,
    "length with a sign": OK + b"Content-Length: +%d\r\n\r\n" % len(ANSWER) + ANSWER,
    "negative length": OK + b"Content-Length: -1\r\n\r\n" + ANSWER,
    "length in hexadecimal": OK + b"Content-Length: 0x%x\r\n\r\n" % len(ANSWER) + ANSWER,
    "length that is no number": OK + b"Content-Length: many\r\n\r\n" + ANSWER,
    "coding that is none": OK + b"Transfer-Encoding: xchunked\r\n\r\n" + chunk(ANSWER) + LAST,
    "chunked, and something after it": OK + b"Transfer-Encoding: chunked, identity\r\n\r\n" + chunk(ANSWER) + LAST,
    "compressed and chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunk(ANSWER) + LAST,
    # Heads that are none.
    "no status line": b"{}\r\n" + LENGTH + b"\r\n" + ANSWER,
    "status that is no number": b"HTTP/1.1 abc OK\r\n" + LENGTH + b"\r\n" + ANSWER,
    "status of four digits": b"HTTP/1.1 2000 OK\r\n" + LENGTH + b"\r\n" + ANSWER,
    "another protocol": b"ICY 200 OK\r\n" + LENGTH + b"\r\n" + ANSWER,
    "another version": b"HTTP/2.0 200 OK\r\n" + LENGTH + b"\r\n" + ANSWER,
    "no head at all": ANSWER,
    "field without a colon": OK + b"evil\r\n" + LENGTH + b"\r\n" + ANSWER,
    "field without a name": OK + b": evil\r\n" + LENGTH + b"\r\n" + ANSWER,
    "space before the colon": OK + b"Content-Length : 5\r\n" + LENGTH + b"\r\n" + ANSWER,
    "NUL in a value": OK + b"X-Evil: a\x00b\r\n" + LENGTH + b"\r\n" + ANSWER,
    "lone CR in a value": OK + b"X-Evil: a\rSet-Cookie: evil\r\n" + LENGTH + b"\r\n" + ANSWER,
    "folded line": OK + b"X-Evil: a\r\n Set-Cookie: evil\r\n" + LENGTH + b"\r\n" + ANSWER,
    "folded length": OK + b"Content-Length:\r\n %d\r\n\r\n" % len(ANSWER) + ANSWER,
    "line of a megabyte": OK + b"X-Evil: " + b"x" * MIB + b"\r\n" + LENGTH + b"\r\n" + ANSWER,
    "a megabyte of fields": OK + b"X-Evil: evil\r\n" * (MIB // 14) + LENGTH + b"\r\n" + ANSWER,
    "5,000 fields": OK + b"".join(b"X-%d: evil\r\n" % n for n in range(5000)) + LENGTH + b"\r\n" + ANSWER,
    # Answers that nobody asked for.
    "a second answer behind the first": OK + LENGTH + b"\r\n" + ANSWER + EVIL,
    "a second answer behind the last chunk": OK + CHUNKED + b"\r\n" + chunk(ANSWER) + LAST + EVIL,
    "a thousand interim answers": b"HTTP/1.1 103 Hints\r\nX-Evil: evil\r\n\r\n" * 1000 + OK + LENGTH + b"\r\n" + ANSWER,
    "a switch of protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: evil\r\nConnection: Upgrade\r\n\r\n" + ANSWER,
}  # fmt: skip

LENIENT = frozenset({"NUL in a value", "lone CR in a value"})
"""What h11 refuses and Twisted's parser takes: no harm, for no value of upstream's goes any further."""

STRIPPED = (
    OK
    + b"".join(
        b"%s: evil\r\n" % name
        for name in (
            b"Set-Cookie", b"Keep-Alive", b"Proxy-Authenticate", b"Trailer", b"Upgrade", b"Alt-Svc", b"Server", b"Via",
            b"Access-Control-Allow-Origin", b"Strict-Transport-Security", b"Location", b"Refresh", b"X-Hop",
            b"X-Goog-Evil", b"WWW-Authenticate", b"X-Request-Id", b"Date", b"ETag", b"Link",
        )
    )
    + b"Connection: keep-alive, X-Hop\r\n"
)  # fmt: skip


class HostileCase(UpstreamCase):
    """One daemon and one upstream for all cases."""

    async def started(self) -> Server:
        self.said = whole()
        self.streamed = False

        def answer(asked: Asked) -> None:
            asked.say(self.said, close=True)

        self.server = self.upstream(answer)
        return await self.gateway({"studio": aistudio(self.server.url)})

    async def says(self, daemon: Server, said: bytes, target: str = GENERATE) -> Answer:
        """Let upstream say this and close; what the client got has nothing evil in it, and the next request is well."""
        self.said = said
        answer = await daemon.ask(target, prompt())
        self.assertNotIn(b"evil", answer.body.lower())
        self.assertNotIn("evil", str(answer.headers).lower())
        self.said = whole()
        after = await daemon.ask(GENERATE, prompt())
        self.assertEqual((after.status, after.body), (200, ANSWER))
        return answer


class AnswerTests(HostileCase):
    """What a client sees of them."""

    async def check(self, cases: dict[str, bytes]) -> None:
        daemon = await self.started()
        before = daemon.peak_rss()
        lenient = []
        for name, said in cases.items():
            answer = await self.says(daemon, said)
            if answer.status == 200:
                self.assertEqual((answer.body, answer.whole), (ANSWER, True), name)
                lenient += [name] if judged(said) != (200, ANSWER) else []
            else:
                self.assertEqual((answer.status, answer.headers["x-antigravity-origin"]), (502, "gateway"), name)
        self.assertLessEqual(set(lenient), LENIENT)
        self.assertLess(daemon.peak_rss() - before, 16 * MIB)

    async def test_broken_bodies_are_never_whole(self) -> None:
        """Truncated, overlong, garbage and overflowing chunks are 502 wherever h11 refuses them (C13/X, C13)."""
        await self.check(BODIES)

    async def test_hostile_heads_are_refused_or_harmless(self) -> None:
        """CL with TE, folds, megabytes, thousands of fields, answers unasked: 502 wherever h11 refuses them (C16/X)."""
        await self.check(HEADS)

    async def test_broken_streams_are_never_whole(self) -> None:
        """The same chunks behind a good event: the stream breaks visibly (C13/X)."""
        daemon = await self.started()
        for name, said in BODIES.items():
            if CHUNKED not in said:
                continue
            stream = said.replace(b"application/json", b"text/event-stream").replace(
                CHUNKED + b"\r\n", CHUNKED + b"\r\n" + chunk(EVENT), 1
            )
            self.assertIsNone(judged(stream), name)
            answer = await self.says(daemon, stream, SSE)
            if answer.status == 200:
                self.assertFalse(answer.whole, name)
            else:
                self.assertEqual(answer.status, 502, name)

    async def test_only_fields_of_a_list_reach_the_client(self) -> None:
        """Cookies, hop-by-hop fields, what Connection lists and everything else stay behind; trailers too (C16)."""
        daemon = await self.started()
        trailing = chunk(ANSWER) + b"0\r\nSet-Cookie: evil\r\nX-Trailer: evil\r\n\r\n"
        for said in (STRIPPED + LENGTH + b"\r\n" + ANSWER, STRIPPED + CHUNKED + b"\r\n" + trailing):
            answer = await self.says(daemon, said)
            self.assertEqual((answer.status, answer.body), (200, ANSWER))
        stream = STRIPPED.replace(b"application/json", b"text/event-stream") + CHUNKED + b"\r\n" + chunk(EVENT) + LAST
        answer = await self.says(daemon, stream, SSE)
        self.assertEqual((answer.status, answer.whole, answer.body), (200, True, EVENT))


class StockAnswerTests(AnswerTests):
    """The same through Twisted's own agent."""

    agent = "stock"
