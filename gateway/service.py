"""The daemon: a configuration in, one ordered service out, from its first socket to its last flush."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.application import service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.components import Componentized

from gateway import __version__, starting
from gateway.accounts import store
from gateway.accounts.statedir import StateDirectory
from gateway.calls import Recorder
from gateway.composition import Composition
from gateway.config import Config, ConfigError
from gateway.console import Console
from gateway.operations import logs
from gateway.operations.journal import LogRecorder
from gateway.operations.live import Live
from gateway.operations.metrics import Metrics
from gateway.operations.recorders import Recorders
from gateway.process import cores, descriptors, signals, turns
from gateway.process.lag import LagWatch
from gateway.process.listeners import CannotListen, Exchange, Listeners
from gateway.process.notify import Notifier
from gateway.situation import Situation
from gateway.traces import Traces
from gateway.upstreams.roads import Roads, needs
from gateway.usage.books import Books

PRUNE_SECONDS = 60.0

_log = Logger(namespace="gateway")

Read = Callable[[str, str], Config]
"""Reads the configuration anew, given the simulator's origin and a state directory for what it makes up; raises
ConfigError."""


@attrs.define(eq=False, repr=False)
class Running:
    """What of a daemon there is once it listens."""

    composition: Composition
    situation: Situation
    listeners: Listeners
    watchers: Listeners
    console: Console
    traces: Traces


class Gateway(service.Service):
    """The daemon: listens, serves, reads its configuration anew, and in the end lets the requests under way end."""

    name = "antigravity"

    def __init__(
        self, config: Config, reactor: Any, options: Mapping[str, Any], read: Read, simulates: bool = False
    ) -> None:
        """``config`` is what ``read`` gave, before any simulator had an origin."""
        self._config = config
        self._reactor = reactor
        self._options = options
        self._read = read
        self._simulates = simulates
        self._simulator: IListeningPort | None = None
        self._origin = ""
        self._running: Running | None = None
        self._roads: Roads | None = None
        self._prune: Any = None
        self._state: StateDirectory | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._logs: logs.Log | None = None
        self._lines: logs.LineObserver | None = None
        self._lag = LagWatch(reactor)
        self._notifier = Notifier(os.environ, reactor, 0)
        self._stopping = False
        self._hurried = False
        self._wait: Deferred[None] | None = None
        """What the end waits for just now."""

    def setServiceParent(self, parent: Any) -> None:
        """Join an application, and take over how it logs; see service.Service."""
        if isinstance(parent, Componentized):
            self._logs = logs.install(parent, self._config.log, self._options)
            self._lines = None if self._logs is None else self._logs.observer
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Listen, before privileges are dropped; see service.Service."""
        cores.forbid()
        cores.tell_where()
        starting.forget_sources()
        if self._simulates:
            # What is invented is not kept, and does not get in another simulation's way.
            self._scratch = tempfile.TemporaryDirectory(prefix="antigravity-")
            self._start_simulator()
            self._config = self._reread()
        self._config = descriptors.clamped(self._config)
        self._state = starting.open_state(Path(self._config.state_dir))
        books = starting.open_books(self._config.usage, self._state, self._reactor, self._knows)
        metrics = Metrics(self._knows)
        self._roads = Roads(self._reactor, self._config)
        live = Live()
        recorders = Recorders(LogRecorder(self._lines), metrics, live, *books.recorders)
        composition = Composition(self._config, self._reactor, self._roads.wire, recorders)
        starting.load_standings(composition.keeper, self._state.locked)
        starting.load_keys(composition.book, self._state.locked, books)
        running = self._running = self._built(composition, recorders, metrics, live, books)
        running.traces.follow(self._config, composition.site)
        try:
            running.listeners.take(running.listeners.prepare(self._config.proxy.listen, self._config.proxy.client_ca))
            running.watchers.take(self._watched(running, self._config))
        except CannotListen as error:
            raise starting.cannot_start(str(error)) from None
        running.console.open_socket(self._state)

    def _knows(self, model: str) -> bool:
        return self._running is not None and self._running.situation.known(model)

    def _built(
        self, composition: Composition, recorders: Recorders, metrics: Metrics, live: Live, books: Books
    ) -> Running:
        situation, traces = Situation(composition, self._lag, books), Traces(recorders, self._reactor)
        console = Console(situation, metrics, live, self._config, self._reactor)
        listeners = Listeners(self._reactor, composition.site)
        watchers = Listeners(self._reactor, console.site.capped())
        situation.connections = lambda: self._roads.connections() if self._roads is not None else []
        if self._logs is not None:
            situation.lines_lost = partial(getattr, self._logs.observer, "lost")
        situation.certificates = lambda: {**listeners.expiries(), **watchers.expiries()}
        situation.traced = lambda: (traces.told, traces.missed)
        return Running(composition, situation, listeners, watchers, console, traces)

    def _watched(self, running: Running, config: Config) -> Exchange:
        """Open the watchers' listeners; raises CannotListen, unless nobody asked for them."""
        try:
            return running.watchers.prepare(config.admin.listen)
        except CannotListen as error:
            if config.admin.chosen:
                raise
            _log.warn("{why}: there are no metrics and no readiness; see admin.listen", why=str(error))
            return running.watchers.prepare(())

    def startService(self) -> None:
        """Serve; see service.Service."""
        super().startService()
        running = self._running
        assert running is not None
        # Only now is it known which process this is: a daemon has forked.
        self._notifier = Notifier(os.environ, self._reactor, os.getpid())
        signals.answer(self._reactor, {"SIGHUP": self._reload, "SIGUSR1": self._reopen_log})
        running.composition.start()
        running.composition.keeper.start()
        running.situation.books.start()
        running.traces.start()
        self._lag.start()
        turns.shorten(self._reactor, self._lag, self._lines)
        self._reactor.callLater(0, self._runs)
        self._tidy()
        for warning in self._config.warnings:
            _log.warn("{warning}", warning=warning)
        if not running.composition.router.members:
            _log.warn("there is no credential yet: every request is answered with 503 until one is added")

    def _runs(self) -> None:
        signals.answer(self._reactor, {"SIGTERM": self._end, "SIGINT": self._end})
        self._announce("serves")
        self._notifier.ready()
        self._notifier.watch()

    def _announce(self, what: str) -> None:
        assert self._running is not None
        count = len(self._running.composition.router.members)
        _log.info(
            "antigravity-gateway {version} {what} {listen} with {count} credential{s} of {upstreams} ({source}), keys"
            " {auth}",
            version=__version__,
            what=what,
            listen=", ".join(self._config.proxy.listen),
            count=count,
            s="" if count == 1 else "s",
            upstreams=", ".join(upstream.name for upstream in self._config.upstreams),
            source=self._config.source,
            auth="required" if self._running.composition.site.gate.asks else "not asked for",
        )
        if self._simulates:
            _log.info(
                "the answers come from the built-in simulator: no credential and no network are used;"
                " `antigravity accounts list --state-dir {path}` shows its accounts",
                path=self._config.state_dir,
            )

    def _tidy(self) -> None:
        if self._running is not None:
            self._running.composition.router.standings.prune(self._reactor.seconds())
        self._prune = self._reactor.callLater(PRUNE_SECONDS, self._tidy)

    def _start_simulator(self) -> None:
        from gateway.simulator.world import Simulator

        port = self._reactor.listenTCP(0, Simulator(self._reactor).site(), interface="127.0.0.1")
        self._simulator, self._origin = port, f"http://127.0.0.1:{port.getHost().port}"

    def _reread(self) -> Config:
        return self._read(self._origin, self._scratch.name if self._scratch is not None else "")

    def _reopen_log(self) -> None:
        if self._logs is not None:
            self._logs.reopen()

    def _reload(self) -> None:
        """Answer SIGHUP: another configuration is put into force as a whole, or none of it."""
        running = self._running
        if running is None or self._stopping:
            return
        self._notifier.reloading()
        try:
            self._put_into_force(running, self._reread())
        except (ConfigError, store.StoreError, CannotListen) as error:
            running.situation.reloads.failed(str(error))
            _log.error("the configuration stays as it was: {why}", why=str(error))
        except Exception as error:
            running.situation.reloads.failed(f"unforeseen: {type(error).__name__}")
            _log.failure("the configuration stays as it was: reading the new one failed")
        else:
            running.situation.reloads.took_effect()
            self._announce("has read its configuration anew, and serves")
        self._notifier.ready()

    def _put_into_force(self, running: Running, config: Config) -> None:
        """Build all that a configuration needs, and then exchange it; raises what its parts raise before that."""
        before, config = self._config, descriptors.clamped(config)
        if config.state_dir != before.state_dir:
            _log.warn("state_dir stays {path} until the next start", path=before.state_dir)
            config = attrs.evolve(config, state_dir=before.state_dir)
        old_roads = roads = self._roads
        if roads is None or needs(config) != needs(before):
            roads = Roads(self._reactor, config)
        recorder: Recorder = running.composition.recorder
        composition = Composition(config, self._reactor, roads.wire, recorder, running.composition)
        exchange = running.listeners.prepare(config.proxy.listen, config.proxy.client_ca)
        try:
            watched = self._watched(running, config)
        except CannotListen:
            running.listeners.abandon(exchange)
            raise
        # From here on nothing fails.
        composition.take_over()
        self._config, self._roads = config, roads
        running.composition = running.situation.composition = composition
        if set(before.proxy.listen) - set(config.proxy.listen):
            composition.site.renew_connections()
        running.listeners.take(exchange)
        running.watchers.take(watched)
        running.console.follow(config)
        running.situation.books.follow(config.usage)
        running.traces.follow(config, composition.site)
        if self._logs is not None:
            self._logs.follow(config.log)
        if old_roads is not None and old_roads is not roads:
            old_roads.close()
            roads.warm()
        for warning in config.warnings:
            _log.warn("{warning}", warning=warning)

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

    async def _stop(self) -> None:
        running, seconds = self._running, self._config.timeouts.drain
        assert running is not None
        composition = running.composition
        site = composition.site
        self._stopping = running.situation.draining = True
        site.stop_soon()
        await running.listeners.close()
        if self._prune is not None and self._prune.active():
            self._prune.cancel()
        composition.rest()
        composition.members.stop()
        self._notifier.stopping(f"requests that are let end: {site.busy}")
        if site.busy:
            _log.info("waiting up to {seconds:g} s for requests to end: {count}", seconds=seconds, count=site.busy)
        await self._in_time(site.drained(seconds))
        if site.busy:
            _log.warn("requests that did not end in time and are cut off: {count}", count=site.busy)
        site.abort_all()
        await self._in_time(Deferred.fromCoroutine(composition.members.close()))
        # What was cut off is reported in the reactor's next turns.
        await deferLater(self._reactor, 0)
        if self._roads is not None:
            await self._roads.close()
        await composition.keeper.stop()
        await running.situation.books.stop()
        await self._in_time(running.traces.stop())
        if self._simulator is not None:
            await maybeDeferred(self._simulator.stopListening)
        await running.watchers.close()
        await running.console.close()
        self._lag.stop()
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
        if self._running is None:
            return succeed(None)
        return Deferred.fromCoroutine(self._stop())
