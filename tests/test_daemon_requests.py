"""The real daemon and several requests on one connection.  Opens sockets."""

from __future__ import annotations

from typing import Any

from tests.fakes import Answer, parse
from tests.processes import GENERATE, SSE, Connection, DaemonCase, prompt


def post(target: str, text: str, version: str = "HTTP/1.1", *fields: str) -> bytes:
    """A request whose connection may be used again."""
    body = prompt(text)
    lines = (f"POST {target} {version}", "Host: localhost", f"Content-Length: {len(body)}", *fields)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def read(data: bytes) -> list[Answer]:
    """Read all the answers that a connection gave."""
    found, rest = [], data
    while rest:
        answer, rest = parse(rest)
        found.append(answer)
    return found


def said(answer: Answer) -> Any:
    return answer.json["candidates"][0]["content"]["parts"][0]["text"]


class PipeliningTests(DaemonCase):
    async def asked(self, data: bytes) -> list[Answer]:
        """Send requests in one piece, and read answers until the connection's end."""
        connection = await self.daemon.connect()
        connection.write(data)
        await self.over(connection)
        return read(bytes(connection.received))

    async def over(self, connection: Connection) -> None:
        await connection.until(lambda: connection.over)

    async def test_three_requests_are_answered_in_order(self) -> None:
        """The first takes longest, and none is sent upstream before the one before it was answered (L6)."""
        self.daemon, simulator = await self.both()
        await simulator.fault("stall", seconds=0.5, times=1)
        last = post(GENERATE, "third", "HTTP/1.1", "Connection: close")
        answers = await self.asked(post(GENERATE, "first") + post(GENERATE, "second") + last)
        self.assertEqual([answer.status for answer in answers], [200, 200, 200])
        for answer, word in zip(answers, ("first", "second", "third"), strict=True):
            self.assertIn(word, said(answer))
        self.assertEqual(len(await simulator.requests()), 3)

    async def test_a_bad_request_spoils_no_good_one(self) -> None:
        """It gets its 400 after the other's answer, and what follows it goes nowhere (L6)."""
        self.daemon, simulator = await self.both()
        await simulator.fault("stall", seconds=0.3, times=1)
        bad = post(GENERATE, "bad").replace(b"Host:", b"Host :")
        good, refusal = await self.asked(post(GENERATE, "good") + bad + post(GENERATE, "late"))
        self.assertEqual((good.status, good.whole), (200, True))
        self.assertIn("good", said(good))
        self.assertEqual(
            (refusal.status, refusal.json["error"]["details"][0]["reason"], refusal.headers["connection"]),
            (400, "HTTP_MALFORMED", "close"),
        )
        self.assertEqual(len(await simulator.requests()), 1)

    async def test_a_request_during_a_stream_waits_for_its_end(self) -> None:
        """Its answer is not among the events (L6)."""
        self.daemon, simulator = await self.both(pace=0.05)
        connection = await self.daemon.connect()
        connection.write(post(SSE, "flowing words"))
        await connection.has(b"data: ")
        connection.write(post(GENERATE, "after", "HTTP/1.1", "Connection: close"))
        await self.over(connection)
        stream, answer = read(bytes(connection.received))
        self.assertEqual((stream.headers["content-type"], stream.whole), ("text/event-stream", True))
        self.assertNotIn(b"HTTP/1.1", stream.body)
        self.assertIn("after", said(answer))
        self.assertEqual(len(await simulator.requests()), 2)

    async def test_an_old_client_keeps_its_connection_where_it_asks_for_it(self) -> None:
        """HTTP/1.0, as nginx and ab speak it (L6)."""
        self.daemon, _ = await self.both()
        kept = post(GENERATE, "kept", "HTTP/1.0", "Connection: keep-alive")
        first, second = await self.asked(kept + post(GENERATE, "last", "HTTP/1.0"))
        self.assertEqual([first.headers["connection"], second.headers["connection"]], ["keep-alive", "close"])
        self.assertIn("last", said(second))


class RefusalTests(DaemonCase):
    async def refused(self, data: bytes, more: bytes) -> Answer:
        """Send a beginning and then much more, and return the answer that came meanwhile."""
        connection = await self.daemon.connect()
        connection.write(data)
        for _ in range(40):
            connection.write(more)
        await connection.has(b"\r\n\r\n{")
        answer, _ = parse(bytes(connection.received))
        self.assertFalse(connection.reset)
        connection.leave()
        return answer

    async def test_a_refusal_is_seen_by_who_is_still_sending(self) -> None:
        """Megabytes on the way do not cost the client the reason (L7, L8, L9)."""
        self.daemon, simulator = await self.both()
        start = f"POST {GENERATE} HTTP/1.1\r\nHost: localhost\r\n".encode()
        for data, more, reason in (
            (start + b"X-Long: ", b"a" * 100_000, "HEAD_TOO_LARGE"),
            (start + b"Content-Length: 4e6\r\n\r\n", bytes(100_000), "CONTENT_LENGTH_INVALID"),
            (start + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n", bytes(100_000), "CHUNK_INVALID"),
            (start + b"Content-Length: 999999999\r\n\r\n", bytes(100_000), "BODY_TOO_LARGE"),
        ):
            answer = await self.refused(data, more)
            self.assertEqual(answer.json["error"]["details"][0]["reason"], reason)
            self.assertEqual((answer.headers["connection"], answer.whole), ("close", True))
        self.assertEqual(await simulator.requests(), [])
