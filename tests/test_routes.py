"""Klein's tree as requests meet it: what a match costs memory, and where failures go."""

from __future__ import annotations

from typing import Any

from klein import Klein
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from werkzeug.exceptions import NotFound

from gateway.edge.routes import MATCHES_MOST, PATH_MOST, Course, Routes


class _Journal:
    request_id = "id-1"


class _Request:
    """As much of a request as routes see."""

    journal = _Journal()

    def __init__(self, path: str, method: bytes = b"GET") -> None:
        self.method, self.path = method, path.encode()
        self.over = False
        self.handler: Course | None = None
        self.seen: list[Any] = []

    def runs(self, handler: Course) -> None:
        self.handler = handler

    def finish(self) -> None:
        self.seen.append("finished")
        self.over = True

    def processingFailed(self, failure: Any) -> None:
        self.seen.append(failure.type)
        self.over = True


class RoutesTests(SynchronousTestCase):
    """Requests in, handlers called."""

    def setUp(self) -> None:
        self.app = app = Klein()
        self.waiting: Deferred[None] = Deferred()

        @app.route("/name/<name>")
        def name(request: Any, name: str) -> None:
            request.seen.append(name)

        @app.route("/wait")
        async def wait(request: Any) -> None:
            await self.waiting

        @app.route("/tidy")
        async def tidy(request: Any) -> None:
            for _ in range(2):
                try:
                    await self.waiting
                except CancelledError:
                    request.seen.append("cancelled")
                self.waiting = Deferred()

        @app.route("/fail/<kind>")
        def fail(request: Any, kind: str) -> None:
            raise {"value": ValueError, "key": KeyError, "runtime": RuntimeError}[kind]

        @app.handle_errors(NotFound)
        def not_found(request: Any, failure: Any) -> None:
            request.seen.append("nowhere")

        @app.handle_errors(ValueError)
        def value(request: Any, failure: Any) -> None:
            request.seen.append("handled")

        @app.handle_errors(KeyError)
        def key(request: Any, failure: Any) -> None:
            raise ZeroDivisionError

        self.routes = Routes(app)

    def ask(self, path: str) -> _Request:
        request = _Request(path)
        self.routes.render(request)
        return request

    def test_a_remembered_match_is_the_same_match(self) -> None:
        """The first time and the second."""
        for _ in range(2):
            self.assertEqual(self.ask("/name/a").seen, ["a", "finished"])
            self.assertEqual(self.ask("/name/b").seen, ["b", "finished"])

    def test_what_is_remembered_is_bounded(self) -> None:
        """Clients choose the paths: the oldest is forgotten, a long one and a wrong one are never remembered."""
        for number in range(MATCHES_MOST + 10):
            self.ask(f"/name/{number}")
        self.ask("/name/" + "x" * PATH_MOST)
        self.ask("/nowhere")
        self.assertEqual(len(self.routes._matches), MATCHES_MOST)
        self.assertEqual(self.ask("/name/0").seen, ["0", "finished"])

    def test_no_route_is_the_error_handlers_matter(self) -> None:
        """Klein's own 404 would be HTML."""
        self.assertEqual(self.ask("/nowhere").seen, ["nowhere", "finished"])

    def test_failures_go_to_the_handler_of_their_kind(self) -> None:
        """And to the request itself where there is none, or where the handler fails (P13)."""
        self.assertEqual(self.ask("/fail/value").seen, ["handled", "finished"])
        self.assertEqual(self.ask("/fail/key").seen, [ZeroDivisionError])
        self.assertEqual(self.ask("/fail/runtime").seen, [RuntimeError])

    def test_answer_is_over_when_its_handler_is(self) -> None:
        """Not before."""
        request = self.ask("/wait")
        self.assertEqual(request.seen, [])
        self.waiting.callback(None)
        self.assertEqual(request.seen, ["finished"])

    def test_late_failure_goes_the_same_way(self) -> None:
        """A handler that fails after it has waited."""
        request = self.ask("/wait")
        self.waiting.errback(ValueError())
        self.assertEqual(request.seen, ["handled", "finished"])

    def test_handler_may_wait_again_and_outlive_a_cancellation(self) -> None:
        """What it waits for is cancelled, as often as it is told; the rest is the handler's own affair."""
        request = self.ask("/tidy")
        assert request.handler is not None
        request.handler.cancel()
        self.assertEqual(request.seen, ["cancelled"])
        self.waiting.callback(None)
        self.assertEqual(request.seen, ["cancelled", "finished"])
        request.handler.cancel()
        self.assertEqual(request.seen, ["cancelled", "finished"])

    def test_client_that_left_is_nobody_to_answer(self) -> None:
        """Its handler is cancelled, and the cancellation is no fault to log; another one is."""
        request = self.ask("/wait")
        request.over = True
        assert request.handler is not None
        request.handler.cancel()
        self.assertEqual(request.seen, [])
        self.assertEqual(self.flushLoggedErrors(CancelledError), [])
        self.waiting = Deferred()
        request = self.ask("/wait")
        request.over = True
        self.waiting.errback(ZeroDivisionError())
        self.assertEqual(request.seen, [])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
