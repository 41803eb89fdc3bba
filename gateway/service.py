"""The daemon: a configuration in, one ordered service out, from its first socket to its last flush."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.application import service
from twisted.application.strports import service as listening
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorUNIX
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.components import Componentized

from gateway import __version__
from gateway.accounts import store
from gateway.accounts.keeper import Keeper
from gateway.accounts.ledger import LedgerError
from gateway.accounts.statedir import SOCKET, StateDirectory
from gateway.composition import Composition
from gateway.config import Config
from gateway.operations import logs
from gateway.operations.adminsocket import AdminSocket
from gateway.operations.journal import LogRecorder
from gateway.process import descriptors, signals
from gateway.routing.oversight import Oversight
from gateway.upstreams.wire import LeanClient, TreqWire, stock_agent

PRUNE_SECONDS = 60.0

_log = Logger(namespace="gateway")


class CannotStart(SystemExit, Exception):
    """The start ends here, with status 1.

    It is an Exception too, because of nothing else twistd tells the shell that started a daemon: that shell would
    wait for ever, and the pid file would stay.
    """


def _cannot_start(sentence: str) -> CannotStart:
    _log.critical("{why}", why=sentence)
    error = CannotStart(sentence)
    # A number as its code lets the interpreter end without saying it all again.
    error.code = 1
    return error


class Gateway(service.Service):
    """The daemon: listens, serves, and in the end lets the requests under way come to theirs."""

    name = "antigravity"

    def __init__(
        self,
        config: Config,
        reactor: Any,
        options: Mapping[str, Any],
        simulated: Callable[[str, str], Config] | None = None,
    ) -> None:
        """``simulated`` makes the configuration of the simulator's origin and a state directory, if there is one."""
        self._config = config
        self._reactor = reactor
        self._options = options
        self._simulated = simulated
        self._listeners: list[Any] = []
        self._simulator: IListeningPort | None = None
        self._composition: Composition | None = None
        self._close_pool: Callable[[], Deferred[None]] = lambda: succeed(None)
        self._prune: Any = None
        self._state: StateDirectory | None = None
        self._admin: AdminSocket | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._stopping = False
        self._hurried = False
        self._wait: Deferred[None] | None = None
        """What the end waits for just now."""

    def setServiceParent(self, parent: Any) -> None:
        """Join an application, and take over how it logs; see service.Service."""
        if isinstance(parent, Componentized):
            logs.install(parent, self._config.log, self._options, self._reactor)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Listen, before privileges are dropped; see service.Service."""
        if self._simulated is not None:
            # What is invented is not kept, and does not get in another simulation's way.
            self._scratch = tempfile.TemporaryDirectory(prefix="antigravity-")
            self._config = self._simulated(self._start_simulator(), self._scratch.name)
        self._config = descriptors.clamped(self._config)
        self._open_state()
        agent, pool = stock_agent(self._reactor, self._config.timeouts.connect)
        self._close_pool = pool.closeCachedConnections
        wire = TreqWire(LeanClient(agent), self._reactor)
        composition = Composition(self._config, self._reactor, wire, LogRecorder())
        self._composition = composition
        self._load_standings(composition.keeper, self._state is not None and self._state.locked)
        for description in self._config.proxy.listen:
            try:
                listener = listening(description, composition.site, reactor=self._reactor)
                listener.privilegedStartService()
            except CannotListenError as error:
                raise _cannot_start(f"cannot listen on {description}: {error.socketError}") from None
            except Exception as error:
                # Each kind of endpoint has errors of its own, for a key that cannot be read or a socket not passed on.
                raise _cannot_start(f"cannot listen on {description}: {type(error).__name__}: {error}") from None
            self._listeners.append(listener)
        self._open_admin(composition.oversight)

    def _open_admin(self, oversight: Oversight) -> None:
        from gateway.operations import admin

        if self._state is None or not self._state.locked or not IReactorUNIX.providedBy(self._reactor):
            return
        site = admin.build(oversight, __version__, self._reactor)
        try:
            address = self._state.address(SOCKET)
            socket = AdminSocket(self._state.path / SOCKET, address, site, self._reactor)
            socket.open()
        except (CannotListenError, OSError) as error:
            _log.error("the commands cannot reach this gateway: {why}", why=str(error))
        else:
            self._admin = socket

    def _open_state(self) -> None:
        state = StateDirectory(Path(self._config.state_dir))
        try:
            state.open()
        except store.StoreError as error:
            raise _cannot_start(str(error)) from None
        except OSError as error:
            _log.warn("the state directory cannot be used, and nothing outlasts this run: {why}", why=str(error))
        self._state = state

    def _load_standings(self, keeper: Keeper, owned: bool) -> None:
        try:
            keeper.load(owned)
        except LedgerError as error:
            raise _cannot_start(str(error)) from None
        except OSError as error:
            _log.warn("the standings of the last run cannot be read: {why}", why=str(error))

    def startService(self) -> None:
        """Serve; see service.Service."""
        super().startService()
        config, composition = self._config, self._composition
        assert composition is not None
        for listener in self._listeners:
            listener.startService()
        for lister in composition.listers:
            lister.start()
        composition.members.start()
        composition.quota_watch.start()
        composition.keeper.start()
        self._reactor.callLater(0, self._runs)
        self._tidy()
        for warning in config.warnings:
            _log.warn("{warning}", warning=warning)
        if not composition.router.members:
            _log.warn("there is no credential yet: every request is answered with 503 until one is added")

    def _runs(self) -> None:
        signals.answer(self._reactor, {"SIGTERM": self._end, "SIGINT": self._end})
        self._announce()

    def _end(self) -> None:
        """Answer SIGTERM and SIGINT: the first ends what is under way in its time, the second at once."""
        if not self._stopping:
            self._stopping = True
            self._reactor.stop()
        elif not self._hurried:
            _log.warn("told to end once more: what is still under way is cut off")
            self._hurried = True
            if self._wait is not None:
                self._wait.cancel()

    def _announce(self) -> None:
        composition = self._composition
        assert composition is not None
        _log.info(
            "antigravity-gateway {version} serves {listen} with {count} credentials of {upstreams} ({source}), keys"
            " {auth}",
            version=__version__,
            listen=", ".join(self._config.proxy.listen),
            count=len(composition.router.members),
            upstreams=", ".join(upstream.name for upstream in self._config.upstreams),
            source=self._config.source,
            auth="required" if self._config.proxy.authenticates else "not asked for",
        )
        if self._simulated is not None:
            _log.info("the answers come from the built-in simulator: no credential and no network are used")

    def _tidy(self) -> None:
        if self._composition is not None:
            self._composition.router.standings.prune(self._reactor.seconds())
        self._prune = self._reactor.callLater(PRUNE_SECONDS, self._tidy)

    def _start_simulator(self) -> str:
        from gateway.simulator.world import Simulator

        port = self._reactor.listenTCP(0, Simulator(self._reactor).site(), interface="127.0.0.1")
        self._simulator = port
        return f"http://127.0.0.1:{port.getHost().port}"

    async def _stop(self) -> None:
        composition, seconds = self._composition, self._config.timeouts.drain
        assert composition is not None
        self._stopping = True
        site = composition.site
        site.stop_soon()
        for listener in self._listeners:
            await maybeDeferred(listener.stopService)
        if self._prune is not None and self._prune.active():
            self._prune.cancel()
        for lister in composition.listers:
            lister.stop()
        composition.members.stop()
        composition.quota_watch.stop()
        if site.busy:
            _log.info("waiting up to {seconds:g} s for {count} requests to end", seconds=seconds, count=site.busy)
        await self._in_time(site.drained(seconds))
        if site.busy:
            _log.warn("{count} requests did not end in time and are cut off", count=site.busy)
        site.abort_all()
        await self._in_time(Deferred.fromCoroutine(composition.members.close()))
        # What was cut off is reported in the reactor's next turns.
        await deferLater(self._reactor, 0)
        await self._close_pool()
        await composition.keeper.stop()
        if self._simulator is not None:
            await maybeDeferred(self._simulator.stopListening)
        if self._admin is not None:
            await self._admin.close()
        if self._state is not None:
            self._state.close()
        if self._scratch is not None:
            self._scratch.cleanup()
        _log.info("antigravity-gateway has ended")

    async def _in_time(self, waiting: Deferred[None]) -> None:
        """Wait, unless the end is to come at once."""
        self._wait = waiting
        if self._hurried:
            waiting.cancel()
        try:
            await waiting
        except CancelledError:
            pass
        self._wait = None

    def stopService(self) -> Deferred[None]:
        """Stop listening, let the requests under way end, cut off what is left; see service.Service."""
        super().stopService()
        if self._composition is None:
            return succeed(None)
        return Deferred.fromCoroutine(self._stop())
