"""The composition: a configuration in, the parts of a gateway out, put together.  Opens nothing."""

from __future__ import annotations

import random
import time
import uuid
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.threads import deferToThreadPool

from gateway.accounts.keeper import Keeper
from gateway.accounts.ledger import Ledger
from gateway.accounts.standing import Standings
from gateway.calls import Recorder
from gateway.config import Config, listeners
from gateway.edge.gate import Gate
from gateway.edge.hosts import Hosts
from gateway.edge.keys import ANONYMOUS, KeyRing, identity
from gateway.edge.origins import Origins
from gateway.edge.site import GatewaySite
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


@attrs.define(eq=False)
class Composition:
    """The parts of a running gateway, put together."""

    config: Config
    reactor: Any
    wire: Wire
    recorder: Recorder
    router: Router = attrs.field(init=False)
    members: Members = attrs.field(init=False)
    site: GatewaySite = attrs.field(init=False)
    listers: list[Lister] = attrs.field(init=False)
    keeper: Keeper = attrs.field(init=False)
    quota_watch: QuotaWatch = attrs.field(init=False)
    oversight: Oversight = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        from gateway.edge import api

        config = self.config
        configured = {
            entry.id: Model(
                entry.id, input_tokens=entry.input_tokens, output_tokens=entry.output_tokens, verbs=entry.verbs
            )
            for entry in config.models
        }
        chance = random.SystemRandom().random
        self.router = Router(
            wire=self.wire,
            clock=self.reactor,
            wall_seconds=time.time,
            chance=chance,
            standings=Standings(chance=chance),
            sessions=Sessions(config.routing.sessions.limit, config.routing.sessions.seconds),
            recorder=self.recorder,
            routing=config.routing,
            timeouts=config.timeouts,
            limits=config.limits,
            catalog=Catalog(
                TABLE,
                configured,
                aliases=Aliases.build(config.routing.aliases),
                served=tuple(
                    Served.build(upstream.models, kinds.KINDS[upstream.kind].verbs) for upstream in config.upstreams
                ),
            ),
            explains=config.log.level == "debug",
        )
        self.members = Members(config, self.reactor, self.wire, self.router, chance)
        self.keeper = Keeper(
            self.router.standings,
            Ledger(Path(config.state_dir)),
            self.reactor,
            self.router.wall_seconds,
            lambda function: deferToThreadPool(self.reactor, self.reactor.getThreadPool(), function),
            self.members.names,
        )
        gate = Gate(
            KeyRing(config.proxy.keys),
            config.proxy.authenticates,
            config.proxy.open_health,
            config.limits.body,
            config.limits.target,
            KeyRing(config.proxy.operator_keys),
            Hosts.build(config.proxy.hosts, (listeners.parse(one).interface for one in config.proxy.listen)),
            Origins(frozenset(config.proxy.origins)),
        )
        resource = api.build(self.router, self.reactor, config.proxy.done_marker)
        self.site = GatewaySite(
            resource,
            self.reactor,
            gate,
            config.limits,
            self.recorder,
            lambda: str(uuid.uuid4()),
            config.timeouts,
            config.proxy.half_close == "answer",
        )
        self.listers = [
            Lister(upstream.name, self.router, self.reactor, chance) for upstream in config.upstreams
        ]
        self.quota_watch = QuotaWatch(self.router, chance)
        kinds_of = {upstream.name: upstream.kind for upstream in config.upstreams}
        identities = (ANONYMOUS, *map(identity, config.proxy.keys))
        self.oversight = Oversight(self.router, kinds_of, identities, self.keeper.save, self.members.hurry)
