"""Caps: connections, streams, bytes of bodies, what one key may have, and wrong keys by address."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from gateway.calls import GatewayError
from gateway.config import Config, Limits
from gateway.edge.guesses import Guesses, network
from gateway.edge.overflow import TOLD_MOST, TOLD_SECONDS
from gateway.edge.proxies import NO_PROXIES, Proxies
from gateway.keys.meters import Meters
from gateway.process.descriptors import RESERVED, connections_within, fit, lowered
from tests.fakes import BODY, SSE, Client, Edge, FakeExchange, event, ok, parse, sse
from tests.test_edge import PATH

STREAM = PATH.replace("generate", "streamGenerate") + "?alt=sse"
KEY = ("x-goog-api-key", "right-key")
WRONG = ("x-goog-api-key", "wrong")


class CapCase(SynchronousTestCase):
    def begin(self, *script: Any, **changes: Any) -> Client:
        self.world = Edge.build(*script, **changes)
        return self.world.connect()

    def is_refused(self, client: Client, code: int, reason: str, retry_after: str) -> None:
        answer = client.answers()[-1]
        error = answer.json["error"]
        self.assertEqual((answer.status, error["details"][0]["reason"]), (code, reason))
        self.assertEqual(answer.headers["retry-after"], retry_after)
        self.assertTrue(error["details"][1]["@type"].endswith("RetryInfo"))
        self.assertEqual(answer.headers["x-antigravity-origin"], "gateway")


class StreamCapTests(CapCase):
    """P9: ``limits.streams``."""

    def test_a_stream_over_the_cap_is_503_and_those_under_way_go_on(self) -> None:
        """P9: a unary call has room, and the next stream too when one has ended."""
        exchange = FakeExchange(200, SSE)
        first = self.begin(exchange, ok(), FakeExchange(200, SSE, sse(event("b"))), limits=Limits(streams=1))
        first.post(STREAM)
        exchange.send(sse(event("a")))
        second = self.world.connect()
        second.post(STREAM)
        self.is_refused(second, 503, "OVERLOADED", "1")
        self.assertFalse(second.dropped)
        second.post(PATH)
        self.assertEqual(second.answers()[-1].status, 200)
        exchange.send(sse(event("c")))
        exchange.end()
        self.assertTrue(first.answer().whole)
        self.assertEqual(self.world.site.room.streams, 0)

    def test_every_end_of_a_stream_gives_its_room_back(self) -> None:
        """P9: also when its client leaves, or upstream refuses."""
        client = self.begin(FakeExchange(200, SSE), limits=Limits(streams=1))
        client.post(STREAM)
        self.assertEqual(self.world.site.room.streams, 1)
        client.leave()
        self.assertEqual(self.world.site.room.streams, 0)


class BodyCapTests(CapCase):
    """P9: ``limits.buffered``."""

    def test_bodies_over_the_cap_are_503_with_the_head_and_with_the_chunk(self) -> None:
        """P9: the one under way is taken to its end."""
        limits = Limits(buffered=1000, body=1000)
        first = self.begin(ok(), ok(), limits=limits)
        first.ask("POST", PATH, length=len(BODY) + 500)
        first.send(b" " * 500)
        second = self.world.connect()
        second.ask("POST", PATH, length=600)
        self.is_refused(second, 503, "OVERLOADED", "1")
        third = self.world.connect()
        third.ask("POST", PATH, b"", ("Transfer-Encoding", "chunked"))
        third.send(b"1f4\r\n" + b" " * 500 + b"\r\n")
        self.assertEqual(third.received, b"")
        third.send(b"1\r\n \r\n")
        self.is_refused(third, 503, "OVERLOADED", "1")
        self.assertEqual(self.world.site.room.buffered, 500)
        first.send(BODY)
        self.assertEqual(first.answer().status, 200)
        self.assertEqual(self.world.site.room.buffered, 0)

    def test_a_body_counts_until_its_request_is_over(self) -> None:
        """P9: it may be sent upstream again until then."""
        client = self.begin()
        held = self.world.wire.hold()
        self.world.wire.script = [held]
        client.post(PATH)
        self.assertEqual(self.world.site.room.buffered, len(BODY))
        client.leave()
        self.assertEqual(self.world.site.room.buffered, 0)

    def test_what_is_let_pass_is_not_counted(self) -> None:
        """L8: a refused body is not kept."""
        client = self.begin(keys=("right-key",))
        client.ask("POST", PATH, bytes(5000), length=10_000)
        self.assertEqual(self.world.site.room.buffered, 0)


class ConnectionCapTests(CapCase):
    """P9: ``limits.connections``."""

    def test_a_connection_over_the_cap_is_told_503_and_closed(self) -> None:
        """P9: before it has asked for anything; the others go on, and a place that gets free is taken."""
        first = self.begin(limits=Limits(connections=1))
        over = self.world.connect()
        answer, rest = parse(over.received)
        self.assertEqual((answer.status, answer.headers["retry-after"], answer.headers["connection"], rest),
                         (503, "1", "close", b""))  # fmt: skip
        self.assertEqual(answer.json["error"]["details"][0]["reason"], "OVERLOADED")
        self.assertTrue(over.transport.half_closed)
        over.send(b"GET / HTTP/1.1\r\n\r\n")
        self.assertTrue(verifyObject(IHalfCloseableProtocol, over.protocol))
        over.protocol.readConnectionLost()
        self.assertTrue(over.dropped)
        over.leave()
        first.ask("GET", "/healthz")
        self.assertEqual(first.answer().status, 200)
        first.leave()
        again = self.world.connect()
        again.ask("GET", "/healthz")
        self.assertEqual(again.answer().status, 200)

    def test_who_does_not_go_is_cut_off(self) -> None:
        """P9: it holds a descriptor for a second at most."""
        self.begin(limits=Limits(connections=1))
        over = self.world.connect()
        self.world.clock.advance(TOLD_SECONDS)
        self.assertTrue(over.reset)
        over.leave()

    def test_a_flood_is_closed_without_a_word(self) -> None:
        """P9: only so many are told at a time, and the log says it once in a while."""
        self.begin(limits=Limits(connections=1))
        told = [self.world.connect() for _ in range(TOLD_MOST)]
        silent = self.world.connect()
        self.assertEqual((silent.received, silent.reset), (b"", True))
        for client in (*told, silent):
            client.leave()
        self.assertTrue(self.world.connect().received)


@attrs.define
class FakeKernel:
    """A process's limits, as the module ``resource`` has them."""

    limits: tuple[int, int]
    error: Exception | None
    RLIMIT_NOFILE = 7
    RLIM_INFINITY = -1

    def getrlimit(self, _which: int) -> tuple[int, int]:
        return self.limits

    def setrlimit(self, _which: int, limits: tuple[int, int]) -> None:
        if self.error is not None:
            raise self.error
        self.limits = limits


class DescriptorTests(SynchronousTestCase):
    """P8: the cap is below what the process may open."""

    @given(st.integers(1, 10**6), st.integers(1, 10**7))
    def test_connections_fit_twice_beside_everything_else(self, wanted: int, descriptors: int) -> None:
        """P8: each may need a second one towards upstream; one connection is always allowed."""
        fitting = connections_within(wanted, descriptors)
        self.assertTrue(1 <= fitting <= wanted)
        self.assertTrue(fitting == 1 or 2 * fitting + RESERVED <= descriptors)
        self.assertTrue(fitting == wanted or 2 * (fitting + 1) + RESERVED > descriptors)

    def test_what_the_system_does_not_raise_stays(self) -> None:
        """P8: a system that forbids it, or allows less than it says, does not end the start."""
        for soft, hard, error, fitting in (
            (1_024, 65_536, None, 10_000),
            (1_024, 4_096, None, 2_024),
            (1_024, -1, None, 10_000),
            (1_024, 65_536, PermissionError(), 488),
            (1_024, -1, ValueError(), 488),
            (-1, -1, PermissionError(), 10_000),
        ):
            self.assertEqual(fit(10_000, FakeKernel((soft, hard), error)), fitting, (soft, hard, error))

    def test_an_operator_is_told_where_fewer_fit_than_was_asked_for(self) -> None:
        """P8: of the default only where not even all streams could be open; of a number of the file's always."""
        rows = [(10_000, 9_999, 0), (10_000, 5_000, 0), (10_000, 4_999, 1), (9_000, 8_999, 1), (9_000, 9_000, 0)]
        for wanted, fitting, warnings in rows:
            config = lowered(Config(limits=Limits(connections=wanted)), fitting)
            self.assertEqual((config.limits.connections, len(config.warnings)), (fitting, warnings), (wanted, fitting))


class KeyAllowanceTests(CapCase):
    """L16: ``limits.key_concurrent`` and ``limits.key_per_minute``."""

    def test_a_key_over_its_concurrency_is_429(self) -> None:
        """L16: the reason says whose limit it is; other keys and /healthz are served."""
        first = self.begin(ok(), ok(), keys=("right-key", "other-key"), limits=Limits(key_concurrent=1))
        held = self.world.wire.hold()
        self.world.wire.script.insert(0, held)
        first.post(PATH, BODY, KEY)
        second = self.world.connect()
        second.post(PATH, BODY, KEY)
        self.is_refused(second, 429, "KEY_CONCURRENCY_EXCEEDED", "1")
        self.assertEqual(second.answer().json["error"]["status"], "RESOURCE_EXHAUSTED")
        other = self.world.connect()
        other.ask("GET", "/healthz", b"", KEY)
        other.post(PATH, BODY, ("x-goog-api-key", "other-key"))
        self.assertEqual([answer.status for answer in other.answers()], [200, 200])
        held.callback(ok())
        again = self.world.connect()
        again.post(PATH, BODY, KEY)
        self.assertEqual([first.answer().status, again.answer().status], [200, 200])

    def test_a_key_over_its_rate_is_429_until_its_time_has_come(self) -> None:
        """L16: Retry-After is when that is."""
        client = self.begin(keys=("right-key",), limits=Limits(key_per_minute=2))
        for status in (200, 200, 429):
            client = self.world.connect()
            client.ask("GET", "/v1beta/models", b"", KEY)
            self.assertEqual(client.answer().status, status)
        self.is_refused(client, 429, "KEY_RATE_EXCEEDED", "30")
        self.world.clock.advance(30)
        client = self.world.connect()
        client.ask("GET", "/v1beta/models", b"", KEY)
        self.assertEqual(client.answer().status, 200)

    def test_a_request_that_is_refused_later_frees_its_place(self) -> None:
        """L16: however it ends."""
        client = self.begin(limits=Limits(key_concurrent=1, body=1000))
        client.ask("POST", PATH, b"", ("Transfer-Encoding", "chunked"))
        client.send(b"3e9\r\n" + bytes(1001) + b"\r\n")
        client.leave()
        client = self.world.connect()
        client.ask("GET", "/v1beta/models")
        self.assertEqual(client.answer().status, 200)

    @given(st.integers(1, 60), st.lists(st.floats(0, 30), min_size=1, max_size=200))
    def test_no_minute_has_more_than_twice_the_rate(self, per_minute: int, gaps: list[float]) -> None:
        """L16: a full bucket and what fills meanwhile; and who waits as long as it was told is let in."""
        meters = Meters(Limits(key_per_minute=per_minute), lambda: 0.0)
        now, let_in = 0.0, []
        for gap in gaps:
            now += gap
            try:
                meters.enter("key", now)
            except GatewayError as error:
                now += (error.retry_after_seconds or 0) + 1e-6
                meters.enter("key", now)
            let_in.append(now)
            self.assertLessEqual(sum(now - 60 < moment for moment in let_in), 2 * per_minute + 1)


class GuessTests(CapCase):
    """L13, S21: wrong keys."""

    def tries(self, count: int, *headers: tuple[str, str]) -> list[int]:
        found = []
        for _ in range(count):
            client = self.world.connect()
            client.ask("GET", "/v1beta/models", b"", *headers)
            found.append(client.answer().status)
            self.last = client
        return found

    def test_after_ten_wrong_keys_in_a_minute_an_address_gets_429(self) -> None:
        """L13: with when to come back; a key is free again every six seconds."""
        self.begin(keys=("right-key",))
        self.assertEqual(self.tries(12, WRONG), [401] * 10 + [429] * 2)
        self.is_refused(self.last, 429, "TOO_MANY_WRONG_KEYS", "6")
        self.world.clock.advance(6)
        self.assertEqual(self.tries(2, WRONG), [401, 429])

    def test_the_right_key_is_let_in_from_the_same_address(self) -> None:
        """L13: others behind it do not suffer, nor do requests without any key, which are no guesses."""
        self.begin(keys=("right-key",))
        self.tries(20, WRONG)
        self.assertEqual(self.tries(3, KEY), [200] * 3)
        self.assertEqual(self.tries(3), [401] * 3)

    def test_many_keys_in_one_request_are_many_guesses(self) -> None:
        """L13: else a hundred fields would be one."""
        self.begin(keys=("right-key",))
        many = [("x-goog-api-key", f"wrong-{number}") for number in range(40)]
        self.assertEqual(self.tries(1, *many), [401])
        self.assertEqual(self.tries(1, WRONG), [429])
        self.world.clock.advance(66)
        self.assertEqual(self.tries(1, WRONG), [401])

    def test_the_table_is_bounded_and_forgets_the_oldest(self) -> None:
        """L13: a flood of addresses costs no memory."""
        guesses = Guesses(most=3)
        for address in ("10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.3", "10.0.0.4"):
            guesses.failed(address, 10, 0)
        self.assertEqual(len(guesses), 3)
        self.assertIsNone(guesses.failed("10.0.0.2", 1, 0))
        self.assertIsNotNone(guesses.failed("10.0.0.4", 1, 0))

    def test_an_ipv6_network_is_one_place(self) -> None:
        """L13: by /64; an IPv4 address in IPv6 is the IPv4 address."""
        for one, other, same in (
            ("2001:db8::1", "2001:db8::ffff:1", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("fe80::1%eth0", "fe80::2", True),
            ("::ffff:10.0.0.1", "10.0.0.1", True),
            ("10.0.0.1", "10.0.0.2", False),
            ("local", "local", True),
        ):
            self.assertEqual(network(one) == network(other), same, (one, other))

    def test_a_clients_word_about_its_address_is_not_taken(self) -> None:
        """S18, L13: a new X-Forwarded-For with each guess is still one address."""
        self.begin(keys=("right-key",))
        found = [self.tries(1, WRONG, ("X-Forwarded-For", f"10.1.0.{number}"))[0] for number in range(12)]
        self.assertEqual(found, [401] * 10 + [429] * 2)
        self.assertEqual({end.journal.peer for end in self.world.recorder.ends}, {"192.168.1.1"})

    def test_a_listed_proxys_word_is_taken(self) -> None:
        """S18: each client behind it has its own bucket and its own line in the log."""
        self.begin(keys=("right-key",), trusted_proxies=["192.168.1.0/24"])
        self.assertEqual(self.tries(11, WRONG, ("X-Forwarded-For", "10.1.0.1"))[-1], 429)
        self.assertEqual(self.tries(1, WRONG, ("X-Forwarded-For", "10.1.0.2")), [401])
        self.assertEqual({end.journal.peer for end in self.world.recorder.ends}, {"10.1.0.1", "10.1.0.2"})

    def test_addresses_are_believed_from_the_end_as_far_as_listed_proxies_wrote_them(self) -> None:
        """S18: what a client itself wrote in front is not looked at."""
        proxies = Proxies.build(["10.0.0.0/24", "2001:db8::/64", "unix"])
        for peer, forwarded, client in (
            ("10.0.0.1", [b"1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", [b"6.6.6.6, 1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", [b"6.6.6.6", b"1.1.1.1, 10.0.0.2"], "1.1.1.1"),
            ("10.0.0.1", [b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", [b"1.1.1.1:5000"], "1.1.1.1"),
            ("2001:db8::1", [b"[2001:db8:1::1]:80"], "2001:db8:1::1"),
            ("::ffff:10.0.0.1", [b"::ffff:1.1.1.1"], "1.1.1.1"),
            ("local", [b"1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", [b"1.1.1.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", [b"\xff"], "10.0.0.1"),
            ("10.0.0.1", [], "10.0.0.1"),
            ("10.0.1.1", [b"1.1.1.1"], "10.0.1.1"),
        ):
            self.assertEqual(proxies.client(peer, forwarded), client, (peer, forwarded))
        self.assertEqual(NO_PROXIES.client("local", [b"1.1.1.1"]), "local")

    @given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 50)), max_size=100))
    def test_who_waits_as_told_may_guess_again(self, steps: list[tuple[float, int]]) -> None:
        """L13: and never waits longer than two minutes."""
        guesses, now = Guesses(), 0.0
        for gap, keys in steps:
            now += gap
            error = guesses.failed("10.0.0.1", keys, now)
            if error is not None:
                assert error.retry_after_seconds is not None
                self.assertTrue(0 < error.retry_after_seconds <= 120)
                now += error.retry_after_seconds + 1e-6
                self.assertIsNone(guesses.failed("10.0.0.1", keys, now))
