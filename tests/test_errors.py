"""Errors of the gateway's own in Google's JSON; and secrets, which never show themselves."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import pickle
import traceback
from collections.abc import Iterator

import attrs
import msgspec
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import GatewayError, Secret
from gateway.edge import errors

PLAIN = GatewayError(429, "RESOURCE_EXHAUSTED", "ALL_CREDENTIALS_COOLING", 'Wait, "é".')
INFO = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "ALL_CREDENTIALS_COOLING",
    "domain": "antigravity.gateway",
}


class BodyTests(SynchronousTestCase):
    """GatewayError as google.rpc.Status."""

    def test_error_is_googles_object(self) -> None:
        """Code, message, status and an ErrorInfo of the gateway's domain."""
        status = {"code": 429, "message": 'Wait, "é".', "status": "RESOURCE_EXHAUSTED", "details": [INFO]}
        self.assertEqual(json.loads(errors.body(PLAIN)), {"error": status})

    def test_further_details_come_after_the_gateways_own(self) -> None:
        """In their order, as they are."""
        error = attrs.evolve(PLAIN, details=({"@type": "a"}, {"@type": "b"}), retry_after_seconds=2.0)
        details = json.loads(errors.body(error))["error"]["details"]
        retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"}
        self.assertEqual(details, [INFO, retry, {"@type": "a"}, {"@type": "b"}])

    def test_retry_delay_is_a_duration_of_protobuf(self) -> None:
        """U9: seconds without an exponent; the header is whole and at least one."""
        table = [
            (0.0, "0s", b"1"), (0.001, "0.001s", b"1"), (0.00001, "0s", b"1"), (1.0, "1s", b"1"), (1.5, "1.5s", b"2"),
            (34.07, "34.07s", b"35"), (93600.0, "93600s", b"93600"), (1_234_567.0, "1234567s", b"1234567"),
            (93599.1234, "93599.123s", b"93600"), (100.0, "100s", b"100"),
        ]  # fmt: skip
        for seconds, delay, header in table:
            error = attrs.evolve(PLAIN, retry_after_seconds=seconds)
            details = json.loads(errors.body(error))["error"]["details"]
            self.assertEqual(details[1]["retryDelay"], delay, seconds)
            self.assertEqual(errors.headers(error), ((b"retry-after", header),), seconds)

    def test_errors_own_headers_stay(self) -> None:
        """A challenge or an Allow, and Retry-After beside it."""
        allow = ((b"allow", b"GET"),)
        self.assertEqual(errors.headers(PLAIN), ())
        self.assertEqual(errors.headers(attrs.evolve(PLAIN, headers=allow)), allow)
        both = attrs.evolve(PLAIN, headers=allow, retry_after_seconds=1.0)
        self.assertEqual(errors.headers(both), (*allow, (b"retry-after", b"1")))

    def test_fault_of_ours_tells_only_where_to_look(self) -> None:
        """P13: the request's id, no traceback."""
        error = errors.internal("req-1")
        self.assertEqual((error.code, error.status), (500, "INTERNAL"))
        self.assertIn("req-1", error.message)


class GatewayErrorTests(SynchronousTestCase):
    """A frozen exception that can be raised like any other."""

    def test_error_passes_through_what_exceptions_pass_through(self) -> None:
        """Chaining, context managers and Failures set attributes on it, frozen as it is."""

        @contextlib.contextmanager
        def through() -> Iterator[None]:
            yield

        caught = None
        try:
            with through():
                try:
                    raise ValueError
                except ValueError as cause:
                    raise attrs.evolve(PLAIN) from cause
        except GatewayError as error:
            caught = error
        assert caught is not None
        self.assertIsInstance(caught.__cause__, ValueError)
        self.assertEqual(str(Failure(caught).value), '429 ALL_CREDENTIALS_COOLING: Wait, "é".')
        self.assertRaises(attrs.exceptions.FrozenInstanceError, setattr, caught, "code", 200)


class SecretTests(SynchronousTestCase):
    """S11: shown as ``'...'`` everywhere."""

    secret = Secret("hush-hush")

    def test_no_rendering_shows_it(self) -> None:
        """repr, str, format, logging, and those of values that hold it."""

        @attrs.frozen
        class Holder:
            key: Secret

        renderings = [
            repr(self.secret), str(self.secret), f"{self.secret}", f"{self.secret!r:>20}", f"{self.secret:>20}",
            "%s %r" % (self.secret, self.secret), "{0} {0!s:3}".format(self.secret), repr([self.secret]),  # noqa: UP031, UP032
            repr({"k": self.secret}), repr(Holder(self.secret)), str(attrs.asdict(Holder(self.secret))),
            logging.LogRecord("n", 20, "p", 1, "%s", (self.secret,), None).getMessage(),
        ]  # fmt: skip
        for rendering in renderings:
            self.assertNotIn("hush", rendering)
            self.assertIn("'...'", rendering)

    def test_traceback_does_not_show_it(self) -> None:
        """An exception that was given it says nothing."""
        try:
            raise ValueError(self.secret)
        except ValueError:
            self.assertNotIn("hush", traceback.format_exc())

    def test_it_is_not_written_by_accident(self) -> None:
        """Pickle, copy and JSON refuse it."""
        for write in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps, msgspec.json.encode):
            self.assertRaises(TypeError, write, self.secret)
        self.assertRaises(TypeError, vars, self.secret)

    def test_it_is_compared_by_value_and_revealed_on_demand(self) -> None:
        """Equal secrets are one key of a dictionary; a plain string is never equal."""
        self.assertEqual(self.secret, Secret("hush-hush"))
        self.assertNotEqual(self.secret, Secret("other"))
        self.assertNotEqual(self.secret, "hush-hush")
        self.assertEqual(len({self.secret, Secret("hush-hush")}), 1)
        self.assertEqual(self.secret.reveal(), "hush-hush")
        self.assertEqual([bool(Secret("")), bool(self.secret)], [False, True])
