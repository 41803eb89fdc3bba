"""The operator's side of a daemon, put together: pages, admin API, and the socket of the commands.

What is rarely used is imported and made when it is first asked for.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorUNIX
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import Request

from gateway import __version__
from gateway.accounts.statedir import SOCKET, StateDirectory
from gateway.config import Config, listeners, passwords
from gateway.edge.guesses import Guesses
from gateway.edge.hosts import Hosts
from gateway.operations.adminsocket import AdminSite, AdminSocket
from gateway.operations.live import Live
from gateway.operations.metrics import Metrics
from gateway.operations.watching import Pages, WatchSite
from gateway.situation import Situation

if TYPE_CHECKING:
    from gateway.operations.adminroutes import Part
    from gateway.operations.adminweb import AdminWeb
    from gateway.operations.exposition import Exposition
    from gateway.operations.feed import Feed
    from gateway.operations.sessions import Codes
    from gateway.signins import SignIns

_log = Logger(namespace="gateway")


class Console:
    """What the operator and whoever watches can reach."""

    def __init__(self, situation: Situation, metrics: Metrics, live: Live, config: Config, reactor: Any) -> None:
        self._situation = situation
        self._metrics = metrics
        self._exposition: Exposition | None = None
        self._live = live
        self._config = config
        self._reactor = reactor
        self._socket: AdminSocket | None = None
        self._web: AdminWeb | None = None
        self._codes_made: Codes | None = None
        self._feed_made: Feed | None = None
        self._signins: SignIns | None = None
        pages = Pages(situation.not_ready, situation.pool, situation.status, self._page_of_metrics)
        self.site = WatchSite(pages, config.admin.tokens, reactor)
        self.follow(config)

    def follow(self, config: Config) -> None:
        """Go by another configuration; whoever signed in with a password that was changed is so no more."""
        before, self._config = self._config.admin, config
        admin = config.admin
        self.site.tokens = admin.tokens
        self.site.private = not admin.exposed
        self.site.beyond = self._render if admin.dashboard else None
        if self._web is not None:
            door = self._web.door
            door.rules = self._rules()
            door.sessions.idle_seconds, door.sessions.most_seconds = admin.session_idle, admin.session_most
            if (before.password, before.tokens) != (admin.password, admin.tokens) or not admin.dashboard:
                door.sessions.end_all()
                if self._feed_made is not None:
                    self._feed_made.dismiss()
        self._explain()

    def open_socket(self, state: StateDirectory | None) -> None:
        """Let the commands in, where the state directory is this daemon's own."""
        if state is None or not state.locked or not IReactorUNIX.providedBy(self._reactor):
            return
        site: Any = AdminSite(_Later(self._face_of_the_socket), self._reactor)
        try:
            socket = AdminSocket(state.path / SOCKET, state.address(SOCKET), site, self._reactor)
            socket.open()
        except (CannotListenError, OSError) as error:
            _log.error("the commands cannot reach this gateway: {why}", why=str(error))
        else:
            self._socket = socket

    def _page_of_metrics(self, accept: str) -> tuple[bytes | Deferred[bytes], bytes]:
        if self._exposition is None:
            from gateway.operations.exposition import Exposition

            self._exposition = Exposition(self._metrics, self._situation)
        page = self._exposition.page(accept)
        if not page.long:
            return page.render(), page.kind
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), page.render), page.kind

    def close(self) -> Deferred[None]:
        """Let no more commands in, and whoever watches go."""
        if self._feed_made is not None:
            self._feed_made.stop()
        if self._signins is not None:
            self._signins.stop()
        return self._socket.close() if self._socket is not None else succeed(None)

    def _parts(self) -> list[Part]:
        """Return the routes that both faces have."""
        from gateway.operations.adminkeys import KeyRoutes
        from gateway.operations.adminpool import PoolRoutes
        from gateway.operations.adminusage import UsageRoutes

        situation = self._situation
        return [
            PoolRoutes(
                situation.composition.oversight, __version__, lambda: {"configuration": situation.reloads.row()}
            ),
            KeyRoutes(situation.composition.book),
            UsageRoutes(situation.books),
            self._feed(),
            *self._beyond_the_pool(),
        ]

    def _beyond_the_pool(self) -> list[Part]:
        from gateway.filing import Filing
        from gateway.operations.adminaccounts import AccountRoutes
        from gateway.operations.admintrying import TryingRoutes
        from gateway.playground import Playground
        from gateway.signins import SignIns

        situation = self._situation
        if self._signins is None:
            self._signins = SignIns(lambda: situation.composition, self._reactor)
        filing = Filing(lambda: situation.composition.config, self._reactor, self._look_at_files)
        playground = Playground(lambda: situation.composition, self._reactor)
        return [AccountRoutes(filing, self._signins), TryingRoutes(situation, playground.run)]

    def _look_at_files(self) -> None:
        for one in self._situation.composition.members.watchers:
            one.look()

    def _feed(self) -> Feed:
        """Return the feed, which both faces show."""
        if self._feed_made is None:
            from gateway.operations.feed import Feed

            situation = self._situation
            self._feed_made = Feed(
                self._live,
                self._reactor,
                time.time,
                situation.now,
                lambda: situation.composition.oversight.accounts(),
                lambda watched: self._explain(),
                self._alive,
            )
        return self._feed_made

    def _explain(self) -> None:
        """Have requests say why their credentials are chosen, where anybody sees it."""
        composition = self._situation.composition
        logged = composition.config.log.level_of("access") == "debug"
        composition.router.explains = logged or self._live.heard is not None

    def _alive(self, request: Request) -> bool:
        caller = getattr(request, "caller", None)
        if caller is None or caller.session is None or self._web is None:
            return True
        sessions, now = self._web.door.sessions, self._reactor.seconds()
        if sessions.left(caller.session, now) <= 0.0:
            return False
        # A page that is open and watches is in use.
        caller.session.used = now
        return True

    def _face_of_the_socket(self) -> Any:
        from gateway.operations.admin import Face
        from gateway.operations.adminsession import CodeRoutes

        codes = CodeRoutes(self._codes(), _chance, self._reactor, self._places)
        return Face([*self._parts(), codes], __version__).resource

    def _render(self, request: Request) -> Any:
        """Answer what the pages do not know."""
        if self._web is None:
            self._web = self._built()
        return self._web.render(request)

    def _built(self) -> AdminWeb:
        from gateway.operations.admin import Face
        from gateway.operations.adminsession import SessionRoutes
        from gateway.operations.adminweb import AdminWeb
        from gateway.operations.door import Door
        from gateway.operations.sessions import Sessions

        admin = self._config.admin
        door = Door(self._rules(), Sessions(admin.session_idle, admin.session_most), Guesses())
        session = SessionRoutes(door, self._codes(), self._check, _chance, self._reactor, __version__)
        return AdminWeb(door, Face([session, *self._parts()], __version__).resource, self._reactor)

    def _rules(self) -> Any:
        from gateway.operations.door import Rules

        config = self._config
        interfaces = (listeners.parse(one).interface for one in config.admin.listen)
        hosts = Hosts.build(config.proxy.hosts, interfaces)
        return Rules(config.admin.tokens, config.admin.password, hosts.admits)

    def _codes(self) -> Codes:
        """Return the codes, which the socket makes and the network takes."""
        if self._codes_made is None:
            from gateway.operations.sessions import Codes

            self._codes_made = Codes()
        return self._codes_made

    def _places(self) -> Sequence[str]:
        admin = self._config.admin
        return [url for one in admin.listen if admin.dashboard and (url := listeners.url(one))]

    def _check(self, hashed: str, password: str) -> Deferred[bool]:
        pool = self._reactor.getThreadPool()
        return deferToThreadPool(self._reactor, pool, passwords.matches, hashed, password)


class _Later(Resource):
    """A tree that is made when the first request comes."""

    isLeaf = True

    def __init__(self, make: Callable[[], Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._make = make
        self._made: Any = None

    def render(self, request: Request) -> Any:
        """See IResource."""
        if self._made is None:
            self._made = self._make()
        return self._made.render(request)


def _chance() -> str:
    return secrets.token_urlsafe(32)
