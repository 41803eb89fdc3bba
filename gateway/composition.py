"""The composition: a configuration in, the parts of a gateway out, put together.  Opens nothing."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.web.resource import IResource

from gateway.accounts.keeper import Keeper
from gateway.accounts.kept import configured
from gateway.accounts.ledger import Ledger
from gateway.accounts.standing import Standings
from gateway.calls import Recorder
from gateway.config import AuthMode, Config, listeners
from gateway.credentials import Prepared, prepared
from gateway.edge.gate import Gate
from gateway.edge.hosts import Hosts
from gateway.edge.keys import ANONYMOUS, KeyRing, identity
from gateway.edge.origins import Origins
from gateway.edge.proxies import Proxies
from gateway.edge.site import GatewaySite
from gateway.keys.book import Book
from gateway.keys.bookfile import BookFile
from gateway.keys.holders import Holders
from gateway.keys.meters import Meters
from gateway.members import Members
from gateway.routing.attempts import Router
from gateway.routing.catalog import Aliases, Catalog, Served
from gateway.routing.listing import Lister
from gateway.routing.models import TABLE
from gateway.routing.oversight import Oversight
from gateway.routing.quota import QuotaWatch
from gateway.routing.rotation import Sessions
from gateway.upstreams import kinds
from gateway.upstreams.exchange import Wire
from gateway.upstreams.models import Model
from gateway.usage.prices import Prices


def request_ids() -> Callable[[], str]:
    """Return what makes the requests' ids: 128 bits in hexadecimal, to find a request by and to keep no secret."""
    bits = random.Random().getrandbits  # noqa: S311
    return lambda: f"{bits(128):032x}"


@attrs.define(eq=False, repr=False)
class Composition:
    """The parts of a running gateway, put together.

    One that has a predecessor is built beside it and touches nothing of it until ``take_over``.  Then it has the same
    site, members and keeper, and goes on with the same standings, sessions and tokens.
    """

    config: Config
    reactor: Any
    wire: Wire
    recorder: Recorder
    before: Composition | None = None
    router: Router = attrs.field(init=False)
    members: Members = attrs.field(init=False)
    site: GatewaySite = attrs.field(init=False)
    listers: list[Lister] = attrs.field(init=False)
    keeper: Keeper = attrs.field(init=False)
    quota_watch: QuotaWatch = attrs.field(init=False)
    oversight: Oversight = attrs.field(init=False)
    book: Book = attrs.field(init=False)
    _gate: Gate = attrs.field(init=False)
    _resource: IResource = attrs.field(init=False)
    _prepared: Prepared = attrs.field(init=False)
    _identities: tuple[str, ...] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Build; raises StoreError where a credential's file is not in order."""
        from gateway.edge import api

        config = self.config
        chance = random.SystemRandom().random
        self._identities = (ANONYMOUS, *map(identity, config.proxy.keys))
        if self.before is None:
            self._begin(chance)
        else:
            self._follow(self.before)
        self._gate = _gate(config, self.book.holders)
        self.listers = [Lister(upstream.name, self.router, self.reactor, chance) for upstream in config.upstreams]
        self.quota_watch = QuotaWatch(self.router, chance)
        self._resource = api.build(self.router, self.reactor, config.proxy.done_marker, self.book.own)
        if self.before is None:
            self.site = GatewaySite(
                self._resource,
                self.reactor,
                self._gate,
                config.limits,
                self.recorder,
                request_ids(),
                config.timeouts,
                _answers_half_closed(config),
                self.book.meters,
            )

    def _begin(self, chance: Callable[[], float]) -> None:
        config = self.config
        self.book = client_keys(config, self.reactor)
        self.router = Router(
            clock=self.reactor,
            wall_seconds=time.time,
            chance=chance,
            standings=Standings(chance=chance),
            sessions=Sessions(config.routing.sessions.limit, config.routing.sessions.seconds),
            **self._settings(_catalog(config)),
        )
        self.members = Members(config, self.reactor, self.wire, self.router, chance)
        self.keeper = Keeper(
            self.router.standings,
            Ledger(Path(config.state_dir)),
            self.reactor,
            self.router.wall_seconds,
            in_thread(self.reactor),
            self.members.names,
        )
        self.oversight = Oversight(
            self.router, _kinds(config), self._identities, self.keeper.save, self.members.hurry, _configured(config)
        )

    def _follow(self, before: Composition) -> None:
        self._prepared = prepared(self.config)
        same = set(before.config.upstreams) & set(self.config.upstreams)
        catalog = _catalog(self.config)
        for upstream in same:
            if upstream.name in before.router.catalog.listed:
                catalog = catalog.with_listing(
                    upstream.name, before.router.catalog.listed[upstream.name].values()
                )
        self.router = before.router.renewed(**self._settings(catalog))
        self.members, self.keeper, self.site = before.members, before.keeper, before.site
        self.oversight, self.book = before.oversight, before.book

    def _settings(self, catalog: Catalog) -> dict[str, Any]:
        config = self.config
        return {
            "wire": self.wire,
            "recorder": self.recorder,
            "routing": config.routing,
            "timeouts": config.timeouts,
            "limits": config.limits,
            "catalog": catalog,
            "explains": config.log.level_of("access") == "debug",
        }

    def start(self) -> None:
        """Begin what goes on in the background."""
        for lister in self.listers:
            lister.start()
        self.members.start()
        self.quota_watch.start()

    def rest(self) -> None:
        """End what goes on in the background, except for what tokens need."""
        for lister in self.listers:
            lister.stop()
        self.quota_watch.stop()

    def take_over(self) -> None:
        """Serve in the place of the predecessor: requests under way end by its rules, new ones go by these.

        Nothing here can fail: what can has been done before.
        """
        assert self.before is not None
        before, self.before = self.before, None
        before.rest()
        router, config = self.router, self.config
        router.sessions.resize(config.routing.sessions.limit, config.routing.sessions.seconds)
        router.chooser.waiting.limit = config.limits.queue
        self.members.take(self._prepared, router, self.wire)
        self.oversight.router, self.oversight.upstreams = router, _kinds(config)
        self.oversight.key_ids, self.oversight.configured = self._identities, _configured(config)
        self.book.configured, self.book.meters.cost = self._identities[1:], Prices(config.usage.prices).cost
        self.site.take(self._resource, self._gate, config.limits, config.timeouts, _answers_half_closed(config))
        for lister in self.listers:
            lister.start()
        self.quota_watch.start()
        # Whoever waits for a credential may have one now.
        router.chooser.waiting.offer()


def client_keys(config: Config, reactor: Any) -> Book:
    """Return the book of the keys that the gateway makes, with nothing in it yet."""
    return Book(
        BookFile(Path(config.state_dir)),
        Holders(time.time),
        Meters(config.limits, time.time, Prices(config.usage.prices).cost),
        reactor.seconds,
        time.time,
        secrets.token_bytes,
        in_thread(reactor),
        tuple(map(identity, config.proxy.keys)),
    )


def in_thread(reactor: Any) -> Callable[[Callable[[], None]], Deferred[None]]:
    """Return what runs a function where it may wait for a disk."""
    return lambda function: deferToThreadPool(reactor, reactor.getThreadPool(), function)


def _catalog(config: Config) -> Catalog:
    known = {
        entry.id: Model(
            entry.id, input_tokens=entry.input_tokens, output_tokens=entry.output_tokens, verbs=entry.verbs
        )
        for entry in config.models
    }
    served = tuple(Served.build(one.models, kinds.KINDS[one.kind].verbs) for one in config.upstreams)
    return Catalog(TABLE, known, aliases=Aliases.build(config.routing.aliases), served=served)


def _gate(config: Config, holders: Holders) -> Gate:
    proxy = config.proxy
    return Gate(
        KeyRing(proxy.keys),
        proxy.authenticates,
        proxy.open_health,
        config.limits.body,
        config.limits.target,
        KeyRing(proxy.operator_keys),
        Hosts.build(proxy.hosts, (listeners.parse(one).interface for one in proxy.listen)),
        Origins(frozenset(proxy.origins)),
        Proxies.build(proxy.trusted_proxies),
        holders,
        proxy.auth_mode is AuthMode.AUTO,
        Aliases.build(config.routing.aliases).resolve,
    )


def _kinds(config: Config) -> dict[str, str]:
    return {upstream.name: upstream.kind for upstream in config.upstreams}


def _configured(config: Config) -> frozenset[tuple[str, str]]:
    return frozenset((upstream.name, name) for upstream in config.upstreams for name in configured(upstream))


def _answers_half_closed(config: Config) -> bool:
    return config.proxy.half_close == "answer"
