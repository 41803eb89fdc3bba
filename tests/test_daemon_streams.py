"""Streams through the daemon as a process: framing, breaks, stalls, leaving clients, slow readers.  Opens sockets."""

from __future__ import annotations

import json
import re
import shutil
from typing import Any

from twisted.internet.task import LoopingCall, deferLater

from tests.clients.daemon import secret, spawn
from tests.processes import (
    ARRAY,
    DEADLINE_SECONDS,
    GENERATE,
    POLL_SECONDS,
    SSE,
    STREAM,
    Answer,
    Connection,
    DaemonCase,
    Server,
    Simulator,
    SlowReader,
    head,
    prompt,
    reactor,
)

KIB = 1024


def events(answer: Answer) -> list[Any]:
    """The payloads of an SSE body, which has nothing in it but whole events of one line."""
    assert answer.body.endswith(b"\n\n"), answer.body[-100:]
    payloads = answer.body.decode()[:-2].split("\n\n")
    assert all(payload.startswith("data: ") and "\n" not in payload for payload in payloads), payloads
    return [json.loads(payload.removeprefix("data: ")) for payload in payloads]


def said(payloads: list[Any]) -> str:
    """What the model said in all events together."""
    return "".join(part["text"] for event in payloads for part in event["candidates"][0]["content"]["parts"])


def without_id(data: bytes) -> bytes:
    """An answer's bytes with the one member that is another one each time made the same."""
    return re.sub(rb'"responseId":\s*"[0-9a-f]+"', b'"responseId":"-"', data)


class FramingTests(DaemonCase):
    """Upstream may frame its events as it likes; clients see one shape."""

    variants: tuple[dict[str, Any], ...] = (
        {"use": ["crlf"]},
        {"use": ["cr"]},
        {"use": ["comments"]},
        {"use": ["fields"]},
        {"use": ["no_space"]},
        {"use": ["bom"]},
        {"use": ["no_last_blank"]},
        {"split": 1},
        {"split": 7},
        {"use": ["crlf"], "split": 1},
        {"use": ["crlf", "comments", "fields", "bom", "no_space"], "split": 3},
    )

    async def _accounts(self, simulator: Simulator) -> Server:
        state = self.home / "accounts-state"
        for directory in (state, state / "accounts"):
            directory.mkdir(mode=0o700)
        secret(state / "accounts" / "a.json", json.dumps({"refresh_token": "1//first", "project": "p"}))
        oauth = {"client_id": "an-id", "client_secret": "a-secret", "token_url": f"{simulator.url}/token"}
        upstream = {"kind": "codeassist", "base_urls": [f"{simulator.url}/v1internal"], "oauth": oauth}
        return await self.gateway({"accounts": upstream}, state_dir=str(state))

    async def _checked(self, daemon: Server, simulator: Simulator) -> None:
        question = prompt("Grüße, \U0001f30d!")
        plain = await daemon.ask(SSE, question)
        wanted = events(plain)
        self.assertGreater(len(wanted), 3)
        self.assertIn("Grüße, \U0001f30d!", said(wanted))
        for variant in self.variants:
            await simulator.fault("framing", **variant)
            answer = await daemon.ask(SSE, question)
            self.assertEqual(without_id(answer.body), without_id(plain.body), variant)
            self.assertEqual((answer.whole, answer.headers["content-type"]), (True, "text/event-stream"))
            array = await daemon.ask(ARRAY, question)
            self.assertEqual((array.body[:1], array.body[-1:], array.whole), (b"[", b"]", True), variant)
            self.assertEqual(said(array.json), said(wanted), variant)
            self.assertEqual(array.headers["content-type"], "application/json; charset=UTF-8")
            await simulator.clear()

    async def test_every_framing_gives_the_same_bytes(self) -> None:
        """Line ends, splits, comments, fields, BOM: the client's bytes are the same, in SSE and as an array (C9)."""
        daemon, simulator = await self.both()
        await self._checked(daemon, simulator)

    async def test_every_framing_of_an_enveloped_stream_gives_the_same_bytes(self) -> None:
        """The same through the v1internal envelope, which no client sees (C9)."""
        simulator = await self.simulator()
        daemon = await self._accounts(simulator)
        await self._checked(daemon, simulator)
        self.assertNotIn(b"traceId", (await daemon.ask(SSE, prompt())).body)

    async def test_events_over_several_lines_become_one_line(self) -> None:
        """A payload over several ``data:`` lines reaches the client as one line of the same JSON (C9)."""
        daemon, simulator = await self.both()
        await simulator.fault("framing", use=["multiline"])
        self.assertIn("That is all.", said(events(await daemon.ask(SSE, prompt()))))
        self.assertIn("That is all.", said((await daemon.ask(ARRAY, prompt())).json))

    async def test_done_marker_reaches_only_who_named_no_alt(self) -> None:
        """``[DONE]`` is kept from ``alt=sse`` and arrays, forwarded on the bare form, and never invented."""
        daemon, simulator = await self.both()
        self.assertNotIn(b"[DONE]", (await daemon.ask(STREAM, prompt())).body)
        await simulator.fault("done")
        bare = await daemon.ask(STREAM, prompt())
        self.assertTrue(bare.body.endswith(b"data: [DONE]\n\n"))
        self.assertEqual(bare.headers["content-type"], "text/event-stream")
        for target in (SSE, ARRAY, STREAM + "?%24alt=json%3Benum-encoding%3Dint"):
            answer = await daemon.ask(target, prompt())
            self.assertNotIn(b"DONE", answer.body)
            self.assertTrue(answer.whole)

    async def test_elements_of_an_array_leave_one_by_one(self) -> None:
        """An array is flushed element by element, as its events come."""
        daemon, simulator = await self.both()
        await simulator.fault("stall", after=1, seconds=1.0)
        connection = await daemon.begin(ARRAY, prompt())
        await connection.has(b"You said")
        self.assertNotIn(b"This is turn", connection.received)
        self.assertIn("That is all.", said((await connection.ended()).json))


class BreakTests(DaemonCase):
    """An upstream that breaks off is seen to have broken off."""

    faults: tuple[tuple[str, dict[str, Any]], ...] = (
        ("truncate", {"after": 2}),
        ("reset", {"after": 2}),
        ("error_event", {"after": 2, "code": 503, "then": "finish"}),
        ("error_event", {"after": 2, "code": 503, "then": "close"}),
        ("error_event", {"after": 2, "code": 503, "then": "continue"}),
    )

    async def test_broken_stream_ends_with_an_error_event_and_without_its_end(self) -> None:
        """Reset, truncation, upstream's error event: one error event, and no final chunk (C7)."""
        daemon, simulator = await self.both()
        for action, settings in self.faults:
            await simulator.fault(action, **settings)
            answer = await daemon.ask(SSE, prompt())
            seen = events(answer)
            self.assertEqual([next(iter(event)) for event in seen], ["candidates", "candidates", "error"], action)
            self.assertEqual(seen[-1]["error"]["status"], "UNAVAILABLE")
            self.assertEqual((answer.status, answer.whole), (200, False), (action, settings))
            await simulator.clear()
        self.assertEqual((await daemon.ask(SSE, prompt())).whole, True)

    async def test_broken_array_is_only_dropped(self) -> None:
        """An array that breaks has no ``data:`` line in it, no bracket and no final chunk (C7)."""
        daemon, simulator = await self.both()
        for action, settings in self.faults:
            await simulator.fault(action, **settings)
            answer = await daemon.ask(ARRAY, prompt())
            self.assertEqual((answer.status, answer.whole), (200, False), (action, settings))
            self.assertNotIn(b"error", answer.body)
            self.assertEqual(len(json.loads(answer.body + b"]")), 2)
            await simulator.clear()

    async def test_old_clients_connection_is_reset(self) -> None:
        """For HTTP/1.0 the connection's end is the answer's end, so a broken stream ends in a reset (C7)."""
        daemon, simulator = await self.both()
        await simulator.fault("truncate", after=2, times=1)
        broken = await daemon.ask(SSE, prompt(), version="HTTP/1.0")
        whole = await daemon.ask(SSE, prompt(), version="HTTP/1.0")
        self.assertEqual([broken.reset, whole.reset], [True, False])
        self.assertIn("That is all.", said(events(whole)))

    async def test_curl_notices(self) -> None:
        """curl ends with 18, a transfer that was closed too early (C7)."""
        curl = shutil.which("curl")
        if curl is None:
            self.skipTest("curl is not installed")
        daemon, simulator = await self.both()
        await simulator.fault("reset", after=2, times=1)
        command = [curl, "--silent", "--no-buffer", "--data-binary", prompt().decode(), daemon.url + SSE]
        codes = []
        for _ in range(2):
            child = spawn(reactor, command, self.home)
            self.assertTrue(await child.ended_within(DEADLINE_SECONDS, reactor))
            codes.append(child.exit_code)
        self.assertEqual(codes, [18, 0])

    async def test_break_before_the_first_event_is_another_attempt(self) -> None:
        """What breaks before its first event has not been committed: another credential answers, whole (C7).

        Where nothing at all came over a kept connection, it may be the same one's over a new connection (C8).
        """
        daemon, simulator = await self.both("first", "second")
        for action in ("reset", "truncate"):
            for after in (None, 0):
                await simulator.fault(action, after=after, times=1)
                answer = await daemon.ask(SSE, prompt(f"{action} {after}"))
                self.assertEqual((answer.status, answer.whole), (200, True), (action, after))
                await simulator.clear()
        used = await simulator.credentials()
        self.assertEqual(len(used), 8)
        self.assertTrue(all(len(set(used[n : n + 2])) == 2 for n in (2, 6)), used)

    async def test_cut_unary_answer_is_no_answer(self) -> None:
        """A unary body shorter than its Content-Length is 502, never half an answer (C7)."""
        daemon, simulator = await self.both()
        await simulator.fault("truncate", bytes=100)
        answer = await daemon.ask(GENERATE, prompt())
        self.assertEqual((answer.status, answer.reasons[0]), (502, "UPSTREAM_TRUNCATED"))

    async def test_empty_stream_is_tried_elsewhere(self) -> None:
        """A stream without any event is a failure: another credential answers; where none does, 502."""
        daemon, simulator = await self.both("first", "second")
        await simulator.fault("empty_stream", times=1)
        self.assertIn("That is all.", said(events(await daemon.ask(SSE, prompt()))))
        self.assertEqual(set(await simulator.credentials()), {"first", "second"})
        await simulator.clear()
        await simulator.fault("empty_stream")
        for target in (SSE, ARRAY):
            answer = await daemon.ask(target, prompt())
            self.assertEqual((answer.status, answer.reasons[0]), (502, "UPSTREAM_EMPTY"))

    async def test_wrong_content_type_is_never_passed_off_as_a_stream(self) -> None:
        """A page, JSON or nothing where events should be: another credential, else 502 in JSON (C14)."""
        daemon, simulator = await self.both("first", "second")
        for settings in ({"page": True}, {"type": "application/json"}, {"type": ""}):
            await simulator.fault("content_type", times=1, **settings)
            self.assertTrue((await daemon.ask(SSE, prompt())).whole)
            await simulator.clear()
        await simulator.fault("content_type", page=True)
        answer = await daemon.ask(SSE, prompt())
        self.assertEqual((answer.status, answer.reasons[0]), (502, "UPSTREAM_CONTENT_TYPE"))
        self.assertNotIn(b"html", answer.body)


class StallTests(DaemonCase):
    """An upstream that falls silent."""

    async def test_silence_before_the_first_event_is_tried_elsewhere_once(self) -> None:
        """No event in time: one more credential is tried; it answers, or 504 follows (C5)."""
        daemon, simulator = await self.both("first", "second", "third", timeouts={"first_event_stream": 0.4})
        for after in (None, 0):
            await simulator.fault("stall", after=after, times=1)
            self.assertTrue((await daemon.ask(SSE, prompt(f"Silent at {after}"))).whole)
            await simulator.clear()
        await simulator.fault("stall", after=0)
        answer = await daemon.ask(SSE, prompt("Silent for ever"))
        self.assertEqual((answer.status, answer.reasons[0]), (504, "UPSTREAM_TIMEOUT"))
        found = await simulator.seen(lambda found: all(entry["ended"] for entry in found))
        ended = [entry["ended"] for entry in found]
        self.assertEqual(ended, ["left", "complete", "left", "complete", "left", "left"])

    async def test_silence_in_mid_stream_breaks_it(self) -> None:
        """After ``timeouts.idle`` of silence the stream ends as broken, and upstream's connection closes (C6)."""
        daemon, simulator = await self.both(timeouts={"idle": 0.4})
        await simulator.fault("stall", after=2)
        answer = await daemon.ask(SSE, prompt())
        seen = events(answer)
        self.assertEqual(len(seen), 3)
        self.assertEqual(seen[-1]["error"]["details"][0]["reason"], "UPSTREAM_TIMEOUT")
        self.assertFalse(answer.whole)
        await simulator.seen(lambda found: found[-1]["ended"] == "left")

    async def test_slow_stream_is_no_silence(self) -> None:
        """A healthy stream may last longer than any timeout, as long as it goes on (C6)."""
        timeouts = {"idle": 0.5, "first_event_stream": 0.5, "budget": 0.5}
        daemon, _ = await self.both(timeouts=timeouts, pace=0.2)
        before = reactor.seconds()
        answer = await daemon.ask(SSE, prompt())
        self.assertTrue(answer.whole)
        self.assertGreater(reactor.seconds() - before, 0.9)


class LeavingTests(DaemonCase):
    """A client that leaves takes its upstream connection with it, and blames nobody."""

    async def _leaves(self, daemon: Server, simulator: Simulator, connection: Connection, how: str) -> float:
        """Leave, and return the seconds until upstream had noticed."""
        await simulator.seen(lambda found: len(found) == 1 and not found[0]["ended"])
        # Both sides keep Unix time, on one machine.
        since = (await simulator.control("GET", "state"))["now"]
        if how == "reset":
            connection.leave()
        elif how == "close":
            connection.transport.loseConnection()
        else:
            connection.transport.loseWriteConnection()
        found = await simulator.seen(lambda found: bool(found[0]["ended"]))
        self.assertEqual(found[0]["ended"], "left")
        took = found[0]["ended_at"] - since
        self.assertLess(took, 1.0)
        await simulator.clear()
        answer = await daemon.ask(SSE, prompt("And now?"))
        self.assertEqual((answer.status, answer.whole), (200, True))
        self.assertEqual(await simulator.credentials(), ["only", "only"])
        await simulator.control("DELETE", "requests")
        return float(took)

    async def test_leaving_before_the_first_byte_cancels_upstream(self) -> None:
        """Reset, close and half-close while upstream is silent: it sees its connection close within a second (L1)."""
        daemon, simulator = await self.both("only")
        took = []
        for how in ("reset", "close", "half-close"):
            for after in (None, 0):
                for target in (SSE, GENERATE):
                    await simulator.fault("stall", after=after)
                    took.append(await self._leaves(daemon, simulator, await daemon.begin(target, prompt()), how))
        print(f"\ncancelled before the first byte: {len(took)} times, at most {max(took) * 1000:.0f} ms")
        self.assertIn(" 499 CLIENT_LEFT ", daemon.printed)

    async def test_nobody_else_is_asked_for_a_client_that_has_left(self) -> None:
        """A client's leaving is no failure of the attempt: no other credential is tried (L1)."""
        daemon, simulator = await self.both("first", "second", "third")
        await simulator.fault("stall")
        for target in (SSE, ARRAY, GENERATE):
            connection = await daemon.begin(target, prompt())
            await simulator.seen(lambda found: len(found) == 1)
            connection.leave()
            await simulator.seen(lambda found: bool(found[0]["ended"]))
            # Whatever came of it has come by the time of two more answers.
            for _ in range(2):
                await daemon.ask("/healthz")
            self.assertEqual(len(await simulator.requests()), 1)
            await simulator.control("DELETE", "requests")

    async def test_leaving_in_mid_stream_cancels_upstream(self) -> None:
        """The same in the middle of an endless stream, fast or slow, in both framings (L2)."""
        daemon, simulator = await self.both("only")
        took = []
        for how in ("reset", "close", "half-close"):
            for target in (SSE, ARRAY):
                for pace in (0.0, 0.05):
                    await simulator.fault("endless", pace=pace)
                    connection = await daemon.begin(target, prompt())
                    await connection.has(b"Event 3.")
                    took.append(await self._leaves(daemon, simulator, connection, how))
        print(f"\ncancelled in mid-stream: {len(took)} times, at most {max(took) * 1000:.0f} ms")


class PaceTests(DaemonCase):
    """A client's pace is upstream's pace."""

    readers = 20

    async def test_slow_readers_cost_no_memory_and_stop_upstream(self) -> None:
        """Twenty readers at 1 KiB/s on endless streams: below 256 KiB each, and upstream stops sending (L3)."""
        daemon, simulator = await self.both()
        await simulator.fault("endless", event_bytes=4 * KIB)
        request = head(SSE, prompt()) + prompt()
        warm = SlowReader(daemon.port, request)
        self.addCleanup(warm.close)
        await self._settled(simulator, 1)
        before = daemon.rss()
        readers = [SlowReader(daemon.port, request) for _ in range(self.readers)]
        for reader in readers:
            self.addCleanup(reader.close)

        def take() -> None:
            for reader in readers:
                reader.take(KIB // 4)

        pace = LoopingCall(take)
        running = pace.start(0.25)
        try:
            sent, seconds = await self._settled(simulator, self.readers + 1)
            highest = daemon.rss()
            for _ in range(8):
                await deferLater(reactor, 0.25)
                highest = max(highest, daemon.rss())
            later = await self._sent(simulator)
        finally:
            pace.stop()
            await running
        each = (highest - before) / self.readers / KIB
        taken = sum(reader.taken for reader in readers)
        print(
            f"\n{self.readers} readers at 1 KiB/s: RSS grew by {each:.1f} KiB a reader; upstream had sent {sent // KIB}"
            f" KiB in all when it stopped after {seconds:.1f} s, and {(later - sent) // KIB} KiB more in the next 2 s,"
            f" while they took {taken // KIB} KiB"
        )
        self.assertLess(each, 256)
        self.assertTrue(all(reader.taken for reader in readers))
        # What the readers take makes room now and then, a kernel buffer's worth at a time.
        self.assertLess(later - sent, self.readers * 128 * KIB)

    async def test_pause_of_a_client_is_not_upstreams_silence(self) -> None:
        """A client that does not read for longer than ``timeouts.idle`` finds its stream unbroken."""
        daemon, simulator = await self.both(timeouts={"idle": 0.4})
        await simulator.fault("endless", event_bytes=4 * KIB)
        reader = SlowReader(daemon.port, head(SSE, prompt()) + prompt())
        self.addCleanup(reader.close)
        await self._settled(simulator, 1)
        await deferLater(reactor, 1.0)
        sent = await self._sent(simulator)
        deadline = reactor.seconds() + DEADLINE_SECONDS
        while await self._sent(simulator) == sent:
            self.assertLess(reactor.seconds(), deadline, "upstream was not read on")
            for _ in range(64):
                reader.take(64 * KIB)
            await deferLater(reactor, POLL_SECONDS)
        self.assertEqual((await simulator.requests())[-1]["ended"], "")

    async def _sent(self, simulator: Simulator) -> int:
        return sum(entry["bytes_sent"] for entry in await simulator.requests())

    async def _settled(self, simulator: Simulator, streams: int) -> tuple[int, float]:
        """Wait until upstream sends no more, or nearly; return how many bytes it has sent, and the time it took."""
        since = reactor.seconds()
        await simulator.seen(lambda found: len(found) == streams)
        last = -1
        while reactor.seconds() - since < DEADLINE_SECONDS:
            sent = await self._sent(simulator)
            if sent - last < streams * 8 * KIB:
                return sent, reactor.seconds() - since
            last = sent
            await deferLater(reactor, 0.5)
        raise AssertionError("upstream never stops sending")
