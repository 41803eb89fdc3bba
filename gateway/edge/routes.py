"""From a request to its route: Klein's tree, with its matches remembered and without layers that nothing here needs.

Klein binds Werkzeug's map for every request and wraps the handler in four Deferreds, which costs a third of what the
edge costs.  Here a match is looked up by method and path, a handler that waits is a coroutine or returns a Deferred,
and whatever fails goes to Klein's error handlers, in their order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import CoroutineType
from typing import Any, Final

from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

MATCHES_MOST: Final = 1024
PATH_MOST: Final = 256
"""Clients choose paths: longer ones are matched anew each time."""

Through = Callable[[Any, Any], object]
"""Is told, once, a handler's result, which is a Failure or means nothing, and its request."""

_log = Logger()


class Routes(KleinResource):
    """The resource of a Klein application whose requests are `request.GatewayRequest`."""

    def __init__(self, app: Klein) -> None:
        super().__init__(app)
        self._matches: dict[tuple[bytes, bytes], tuple[Callable[..., Any], dict[str, Any]]] = {}

    def render(self, request: Any) -> Any:
        """Run a request's handler; the request is finished when it is through."""
        try:
            handler, arguments = self._matches.get((request.method, request.path)) or self._match(
                request.method, request.path
            )
            result = handler(request, **arguments)
        except Exception:
            self._failed(Failure(), request)
            return NOT_DONE_YET
        if type(result) is CoroutineType:
            Course(result, self._through, request).begin()
        elif isinstance(result, Deferred):
            request.runs(result)
            result.addBoth(self._through, request)
        elif not request.over:
            request.finish()
        return NOT_DONE_YET

    def _match(self, method: bytes, path: bytes) -> tuple[Callable[..., Any], dict[str, Any]]:
        """Return a route's handler and arguments; raises Werkzeug's HTTPException."""
        mapper = self._app.url_map.bind("gateway", path_info=path.decode("utf-8"))
        rule, arguments = mapper.match(method=method.decode("ascii"), return_rule=True)
        found = (self._handler(rule.endpoint), dict(arguments))
        if len(path) <= PATH_MOST:
            if len(self._matches) >= MATCHES_MOST:
                del self._matches[next(iter(self._matches))]
            self._matches[method, path] = found
        return found

    def _handler(self, endpoint: str) -> Callable[..., Any]:
        """Return what serves an endpoint: the method itself, where the application is an object's own."""
        method: Callable[..., Any] | None = getattr(self._app._instance, endpoint, None)
        return method or partial(self._app.execute_endpoint, endpoint)

    def _through(self, result: Any, request: Any) -> None:
        """End a request whose handler is through, whatever became of it."""
        try:
            if isinstance(result, Failure):
                self._failed(result, request)
            elif not request.over:
                request.finish()
        except Exception:
            _log.failure("request {id} could not be finished", id=request.journal.request_id)

    def _failed(self, failure: Failure, request: Any) -> None:
        if request.over:
            if not failure.check(CancelledError):
                _log.failure("request {id} failed when it was over", failure=failure, id=request.journal.request_id)
            return
        for kinds, handler in self._app._error_handlers:
            if failure.check(*kinds):
                try:
                    self._app.execute_error_handler(handler, request, failure)
                except Exception:
                    request.processingFailed(Failure())
                break
        else:
            request.processingFailed(failure)
        if not request.over:
            request.finish()


class Course:
    """A handler's coroutine on its way from one Deferred to the next.

    It is ``Deferred.fromCoroutine`` without what nobody needs here: a Deferred of its own, since one function is told
    of its end, and a context for variables, since nobody sets any.
    """

    __slots__ = ("_coroutine", "_request", "_through", "_waits")

    def __init__(self, coroutine: CoroutineType[Any, Any, Any], through: Through, request: Any) -> None:
        self._coroutine = coroutine
        self._through = through
        self._request = request
        self._waits: Deferred[Any] | None = None

    def begin(self) -> None:
        """Run as far as it gets without waiting."""
        self._request.runs(self)
        self._go_on(None)

    def cancel(self) -> None:
        """Cancel what is waited for; the handler is told by CancelledError, as of every other failure."""
        if self._waits is not None:
            self._waits.cancel()

    def _go_on(self, result: Any) -> None:
        self._waits = None
        try:
            if isinstance(result, Failure):
                waits = result.throwExceptionIntoGenerator(self._coroutine)
            else:
                waits = self._coroutine.send(result)
        except StopIteration:
            result = None
        except BaseException:
            result = Failure()
        else:
            self._waits = waits
            waits.addBoth(self._go_on)
            return
        # The request has this one, and this one the request: whoever counts references shall be done with both.
        request, self._request = self._request, None
        self._through(result, request)
