"""How the gateway is at this moment, for its pages and metrics.  Looks; changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from gateway import __version__
from gateway.composition import Composition
from gateway.config import listeners
from gateway.config.tariff import UsageConfig
from gateway.process.lag import LagWatch
from gateway.routing.catalog import DEFAULT_VERBS
from gateway.routing.oversight import stamp
from gateway.tally import OTHER, Counts, Histogram
from gateway.usage.books import Books

Row = dict[str, Any]
_SHOWN = ("label", "upstream", "kind", "state", "reason", "models", "in_flight")
"""What of a credential's row is shown to whoever reaches the pages: no name, no project, no link."""


@attrs.define(eq=False, repr=False)
class Reloads:
    """What became of the reloads."""

    good: int = 0
    bad: int = 0
    why: str = ""
    """Why the last one came to nothing; empty where it took effect."""
    loaded: float = attrs.field(factory=time.time)
    """When the configuration in force was read."""

    def took_effect(self) -> None:
        """Count a good one."""
        self.good += 1
        self.why, self.loaded = "", time.time()

    def failed(self, why: str) -> None:
        """Count one that came to nothing."""
        self.bad += 1
        self.why = why

    def row(self) -> Row:
        """Return it for people."""
        return {"loaded": stamp(self.loaded), "good": self.good, "failed": self.bad, "last_failure": self.why}


@attrs.define(eq=False, repr=False)
class Situation:
    """Looks at the parts of a running gateway."""

    composition: Composition
    lag: LagWatch
    books: Books = attrs.field(factory=lambda: Books(UsageConfig(enabled=False), None, None))
    traced: Callable[[], tuple[int, int]] = lambda: (0, 0)
    """Says how many requests were told in traces, and how many should have been."""
    connections: Callable[[], Iterable[Row]] = list
    """Gives a row for each upstream; see Roads."""
    certificates: Callable[[], Mapping[str, float]] = dict
    """Gives the listeners' certificates' ends, in Unix seconds."""
    lines_lost: Callable[[], int] = int
    """Says how many lines of the log could not be written."""
    reloads: Reloads = attrs.field(factory=Reloads)
    draining: bool = False
    version: str = __version__

    def not_ready(self) -> str:
        """Return why no request should be sent here, empty while there is no reason."""
        if self.draining:
            return "DRAINING"
        router = self.composition.router
        now = router.clock.seconds()
        standings = router.standings
        found = [standings.availability(member.credential, "", now) for member in router.members]
        if any(one.usable for one in found):
            return ""
        if found and all(one.state.value == "halted" for one in found):
            return "POOL_HALTED"
        return "UPSTREAM_CREDENTIALS_UNAVAILABLE"

    def gauges(self) -> dict[str, float]:
        """Return numbers that go up and down."""
        site, router = self.composition.site, self.composition.router
        return {
            "ready": not self.not_ready(),
            "draining": self.draining,
            "requests_in_flight": site.busy,
            "connections": len(site.channels),
            "streams_open": site.room.streams,
            "buffered_bytes": site.room.buffered,
            "requests_waiting": len(router.chooser.waiting),
            "config_reload_failed": bool(self.reloads.why),
            "config_loaded_timestamp_seconds": self.reloads.loaded,
            "state_degraded": self.composition.keeper.failing,
            "usage_degraded": bool(self.books.failing),
            "usage_waiting": self.books.waiting,
            "reactor_lag_seconds": self.lag.last_seconds,
            "reactor_lag_max_seconds": self.lag.most_seconds,
        }

    def counters(self) -> dict[str, int]:
        """Return numbers that only grow."""
        return {
            "config_reloads": self.reloads.good,
            "config_reload_failures": self.reloads.bad,
            "state_write_errors": self.composition.keeper.errors,
            "traces": self.traced()[0],
            "traces_lost": self.traced()[1],
            "log_lines_lost": self.lines_lost(),
            "usage_lost": self.books.lost,
            "reactor_blocked": self.lag.blocked,
        }

    def waits(self) -> Mapping[str, Histogram]:
        """Return how long requests waited for a credential, by what came of it."""
        return self.composition.router.chooser.waiting.waits

    def refreshes(self) -> Counts:
        """Return how often a token was asked for, by what came of it."""
        return self.composition.members.ahead.fetched

    def quotas(self) -> list[Row]:
        """Return what is left of each credential's quotas; of models outside the catalogue, the least of all."""
        found: dict[tuple[str, str, str], float] = {}
        for row in self.composition.oversight.accounts():
            for quota in row["quota"]:
                model = quota["model"] if self.known(quota["model"]) else OTHER
                key = (row["label"], row["upstream"], model)
                found[key] = min(quota["remaining"], found.get(key, 1.0))
        return [
            {"label": label, "upstream": upstream, "model": model, "remaining": remaining}
            for (label, upstream, model), remaining in found.items()
        ]

    def now(self) -> Row:
        """Return what whoever watches is told each second, beside the credentials."""
        gauges, why = self.gauges(), self.not_ready()
        return {
            "version": self.version,
            "ready": not why,
            "reason": why,
            "in_flight": self.composition.site.busy,
            "streams": gauges["streams_open"],
            "waiting": gauges["requests_waiting"],
            "connections": gauges["connections"],
            "lag_seconds": gauges["reactor_lag_seconds"],
            "degraded": gauges["state_degraded"],
            "reload_failure": self.reloads.why,
            "upstreams": self.upstreams(),
        }

    def models(self) -> Row:
        """Return the models that are listed, with the upstreams that are known to have them, and the aliases."""
        composition = self.composition
        catalog = composition.router.catalog
        models, _ = catalog.page(None, "")
        return {
            "models": [
                {
                    "id": model.id,
                    "description": model.description or model.display_name,
                    "input_tokens": model.input_tokens or 0,
                    "output_tokens": model.output_tokens or 0,
                    "methods": list(model.verbs or DEFAULT_VERBS),
                    "upstreams": [name for name in catalog.listed if catalog.knows(name, catalog.resolve(model.id))],
                }
                for model in models
            ],
            "aliases": [
                {"pattern": pattern, "target": target} for pattern, target in composition.config.routing.aliases
            ],
        }

    def clients(self) -> Row:
        """Return where clients find the gateway, as far as its configuration says."""
        proxy = self.composition.config.proxy
        return {
            "base_urls": [url for one in proxy.listen if (url := listeners.url(one))],
            "listen": list(proxy.listen),
            "keys_required": self.composition.site.gate.asks,
        }

    def accounts(self) -> list[Row]:
        """Return a row for each credential."""
        return [{name: row[name] for name in _SHOWN} for row in self.composition.oversight.accounts()]

    def upstreams(self) -> list[Row]:
        """Return a row for each upstream."""
        rows: list[Row] = self.composition.oversight.status()["upstreams"]
        return rows

    def pool(self) -> Row:
        """Return the upstreams and the credentials, with their states and why they are in them."""
        return {"upstreams": self.upstreams(), "credentials": self.accounts()}

    def status(self) -> Row:
        """Return all of it, for people."""
        config, why = self.composition.config, self.not_ready()
        return {
            "version": self.version,
            "ready": not why,
            "reason": why,
            "listen": config.proxy.listen,
            "configuration": {"source": config.source, **self.reloads.row()},
            "state_degraded": self.composition.keeper.failing,
            "usage": self.books.row(),
            "requests_in_flight": self.composition.site.busy,
            "connections": len(self.composition.site.channels),
            **self.composition.oversight.status(),
            "credentials": self.accounts(),
        }

    def known(self, model: str) -> bool:
        """Say whether a model is in the catalogue."""
        return self.composition.router.catalog.lists(model)
