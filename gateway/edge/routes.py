"""From a request to its route: Klein's tree, with its matches remembered and without layers that nothing here needs.

Klein binds Werkzeug's map for every request and wraps the handler in four Deferreds, which costs a third of what the
edge costs.  Here a match is looked up by method and path, handlers may return nothing but a Deferred, and whatever
fails goes to Klein's error handlers, in their order.
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
            if type(result) is CoroutineType:
                result = Deferred.fromCoroutine(result)
        except Exception:
            self._failed(Failure(), request)
            return NOT_DONE_YET
        if isinstance(result, Deferred):
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
            _log.failure("a request could not be finished")

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
