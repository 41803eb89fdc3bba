"""W3C trace context: what is taken from a client, and what is given upstream."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.tracecontext import STATE_MOST, Contexts, parent_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def named(*parents: str, state: tuple[str, ...] = ()) -> dict[bytes, list[bytes]]:
    fields = {b"traceparent": [one.encode("latin-1") for one in parents]} if parents else {}
    return {**fields, **({b"tracestate": [one.encode("latin-1") for one in state]} if state else {})}


def contexts(sample: float = 1.0, propagates: bool = False) -> Contexts:
    return Contexts(random.Random(7).getrandbits, lambda: 1000.0, sample, propagates)


class ParentTests(SynchronousTestCase):
    def test_senders_span_is_read(self) -> None:
        """With the sender's decision; of flags beyond that nothing is known."""
        for flags, sampled in (("00", False), ("01", True), ("03", True), ("02", False)):
            parent = parent_of(named(f"00-{TRACE}-{SPAN}-{flags}"))
            assert parent is not None
            self.assertEqual((parent.trace_id, parent.span_id, parent.sampled), (TRACE, SPAN, sampled))

    def test_later_versions_are_read_as_far_as_they_are_known(self) -> None:
        """What follows the flags is skipped; version ff is none."""
        for version, more, good in (("01", "", True), ("cc", "-what-will-be", True), ("ff", "", False)):
            self.assertEqual(parent_of(named(f"{version}-{TRACE}-{SPAN}-01{more}")) is not None, good, version)

    def test_what_is_no_traceparent_is_as_if_it_were_not_there(self) -> None:
        """Wrong lengths and letters, ids of zeros, more than one header."""
        bad = (
            "", "x", f"00-{TRACE}-{SPAN}", f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more",
            f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE[:-1]}-{SPAN}-01",
            f"0-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-1", f"01-{TRACE}-{SPAN}-01more",
            f"00_{TRACE}_{SPAN}_01", f"00-{TRACE}-{SPAN}-01\xff",
        )  # fmt: skip
        for text in bad:
            self.assertIsNone(parent_of(named(text)), text)
        self.assertIsNone(parent_of(named(PARENT, PARENT)))
        self.assertIsNone(parent_of(named(state=("a=1",))))

    def test_tracestate_is_kept_where_it_can_be_passed_on(self) -> None:
        """Its lines joined; one that is too long, or holds what no header may, is left out as a whole."""
        for given_state, kept in (
            (("a=1",), "a=1"),
            (("a=1", "b=2"), "a=1,b=2"),
            (("a=" + "x" * STATE_MOST,), ""),
            (("a=\x01",), ""),
            (("a=\xe4",), ""),
            ((), ""),
        ):
            parent = parent_of(named(PARENT, state=given_state))
            assert parent is not None
            self.assertEqual(parent.state, kept)

    @given(st.binary(max_size=80), st.binary(max_size=20))
    def test_nothing_that_is_sent_raises(self, parent: bytes, state: bytes) -> None:
        """Whatever the bytes."""
        found = parent_of({b"traceparent": [parent], b"tracestate": [state]})
        if found is not None:
            self.assertEqual(len(found.trace_id), 32)


class TraceTests(SynchronousTestCase):
    def test_sender_decides_and_else_the_share(self) -> None:
        """Parent-based: sample counts for requests without a traceparent alone."""
        self.assertTrue(contexts(0.0).begin(named(PARENT)).sampled)
        self.assertFalse(contexts(1.0).begin(named(PARENT[:-1] + "0")).sampled)
        for sample, least, most in ((0.0, 0, 0), (0.25, 200, 300), (1.0, 1000, 1000)):
            begins = contexts(sample)
            self.assertTrue(least <= sum(begins.begin({}).sampled for _ in range(1000)) <= most, sample)

    def test_ids_are_never_zero_and_never_the_same(self) -> None:
        """A new trace where there is none; a span of its own for the request and for each attempt."""
        zeros = Contexts(lambda bits: 0, lambda: 0.0, 1.0, False).begin({})
        self.assertNotIn("0" * 16, (zeros.span_id, zeros.trace_id[16:]))
        begins = contexts()
        traces = [begins.begin(named(PARENT)) for _ in range(100)]
        self.assertEqual({trace.trace_id for trace in traces}, {TRACE})
        for trace in traces:
            trace.sent()
            trace.judged()
            trace.judged()
        spans = {trace.span_id for trace in traces} | {tried.span_id for trace in traces for tried in trace.tried}
        self.assertEqual(len(spans), 300)

    def test_upstream_is_told_nothing_unless_asked_for(self) -> None:
        """And then which attempt it is, with the decision and what the client's system says."""
        self.assertEqual(contexts().begin(named(PARENT)).sent(), ())
        trace = contexts(propagates=True).begin(named(PARENT, state=("a=1",)))
        sent = dict(trace.sent())
        self.assertEqual(sent, {b"traceparent": f"00-{TRACE}-{trace.under_way}-01".encode(), b"tracestate": b"a=1"})
        unsampled = contexts(0.0, propagates=True).begin({})
        self.assertEqual(dict(unsampled.sent()).keys(), {b"traceparent"})
        self.assertTrue(dict(unsampled.sent())[b"traceparent"].endswith(b"-00"))
