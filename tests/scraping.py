"""A real Prometheus before a daemon: what it scrapes, and which alerts fire.

Needs its programs, prometheus and promtool, so it is no part of the suite: `.ci/full prometheus`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml
from twisted.internet.task import deferLater

from tests.clients.daemon import free_port, spawn
from tests.clients.environments import REPOSITORY
from tests.processes import DEADLINE_SECONDS, GENERATE, SSE, Server, prompt, reactor
from tests.test_daemon_watch import WatchCase
from tests.test_dashboards import NAME, expressions, rules

RULES = REPOSITORY / "conf" / "prometheus-rules.yaml"
TOKEN = "a-scrapers-token"
EVERY = "200ms"


class Prometheus(Server):
    """Its HTTP API."""

    async def query(self, path: str, **parameters: str) -> Any:
        target = f"/api/v1/{path}" + (f"?{urlencode(parameters)}" if parameters else "")
        answer = await self.ask(target)
        document = answer.json
        if document["status"] != "success":
            raise AssertionError(f"{parameters}: {document}")
        return document["data"]

    async def until(self, path: str, condition: Any, **parameters: str) -> Any:
        """Ask until the answer fits."""
        deadline = reactor.seconds() + DEADLINE_SECONDS
        while not condition(found := await self.query(path, **parameters)):
            if reactor.seconds() > deadline:
                raise AssertionError(f"not within {DEADLINE_SECONDS} s: {found}")
            await deferLater(reactor, 0.1)
        return found

    async def fires(self, name: str) -> Any:
        """Wait for an alert to fire, and return it."""
        found = await self.until(
            "alerts",
            lambda data: any(
                alert["labels"]["alertname"] == name and alert["state"] == "firing" for alert in data["alerts"]
            ),
        )
        return next(alert for alert in found["alerts"] if alert["labels"]["alertname"] == name)


class ScrapeTests(WatchCase):
    """Prometheus reads the pages of a daemon that is at work."""

    timeout = 180

    async def begin(self, *keys: str, **sections: Any) -> None:
        port = free_port()
        admin = {"listen": f"tcp:{port}:interface=127.0.0.1", "token": TOKEN}
        await super().begin(*keys, admin=admin, **sections)
        self.pages = Server(self.daemon.child, port)

    async def prometheus(self) -> Prometheus:
        """Start one that scrapes the daemon, with our rules; nothing has to be so for minutes."""
        document = yaml.safe_load(RULES.read_text("utf-8"))
        for group in document["groups"]:
            group["interval"] = EVERY
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = "300ms"
        (self.home / "rules.yaml").write_text(json.dumps(document))
        (self.home / "token").write_text(TOKEN)
        configuration = {
            "global": {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY},
            "rule_files": [str(self.home / "rules.yaml")],
            "scrape_configs": [
                {
                    "job_name": "antigravity",
                    "authorization": {"type": "Bearer", "credentials_file": str(self.home / "token")},
                    "static_configs": [{"targets": [f"127.0.0.1:{self.pages.port}"]}],
                }
            ],
        }
        (self.home / "prometheus.yml").write_text(json.dumps(configuration))
        port = free_port()
        child = spawn(
            reactor,
            [
                "prometheus",
                f"--config.file={self.home / 'prometheus.yml'}",
                f"--storage.tsdb.path={self.home / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            self.home,
            {"HOME": str(self.home)},
        )
        self.addCleanup(child.ended_within, 10, reactor)
        self.addCleanup(child.signal, "TERM")
        server = Prometheus(child, port)
        await server.started()
        deadline = reactor.seconds() + DEADLINE_SECONDS
        # It answers before it has read its rules.
        while (await server.ask("/-/ready")).status != 200:
            self.assertLess(reactor.seconds(), deadline, server.printed)
            await deferLater(reactor, 0.1)
        return server

    async def test_page_is_scraped_and_everything_named_is_there(self) -> None:
        """As OpenMetrics, with the token; every query of the dashboard and of the rules is one that it can answer."""
        await self.begin("good-1", "good-2")
        await self.google.fault("status", code=500, times=1)
        self.assertEqual((await self.daemon.ask(GENERATE, prompt())).status, 200)
        self.assertTrue((await self.daemon.ask(SSE, prompt())).whole)
        self.assertEqual((await self.daemon.ask("/nowhere")).status, 404)
        prometheus = await self.prometheus()
        data = await prometheus.until(
            "targets", lambda data: any(one["health"] == "up" for one in data["activeTargets"])
        )
        (target,) = data["activeTargets"]
        self.assertEqual(target["lastError"], "")
        known = await prometheus.until("metadata", lambda data: any(name.startswith("agw_") for name in data))
        told = {(name, entry["type"]) for name, entries in known.items() for entry in entries}
        self.assertIn(("agw_ttft_seconds", "histogram"), told)
        families = {name.removesuffix("_total") for name in known}
        asked = list(expressions())
        for where, expression in asked:
            for name in NAME.findall(expression):
                family = re.sub(r"_(?:bucket|count|sum|total)$", "", name)
                self.assertIn(family, families, where)
        for where, expression in asked:
            query = expression.replace("$instance", ".*").replace("$__rate_interval", "1m")
            self.assertNotIn("$", query, where)
            await prometheus.query("query", query=query)
        found = await prometheus.query("query", query='agw_requests_total{code="200",origin="upstream"}')
        self.assertEqual([one["value"][1] for one in found["result"]], ["2"])
        # What was absent before the first scrape is over.
        await prometheus.until("alerts", lambda data: not data["alerts"])

    async def test_alerts_fire_for_what_they_are_there_for(self) -> None:
        """A key that Google does not know: its quarantine, then a pool without any; then a gateway that is gone."""
        await self.begin()
        prometheus = await self.prometheus()
        loaded = await prometheus.until("rules", lambda data: data["groups"])
        names = {rule["name"] for group in loaded["groups"] for rule in group["rules"]}
        self.assertEqual(names, {rule["alert"] for rule in rules()})
        await self.google.fault("status", reason="API_KEY_INVALID")
        self.assertEqual((await self.daemon.ask(GENERATE, prompt())).status, 503)
        alert = await prometheus.fires("AntigravityQuarantine")
        self.assertIn("studio/good-1", alert["annotations"]["summary"])
        await prometheus.fires("AntigravityNoCredential")
        await prometheus.fires("AntigravityNotReady")
        self.daemon.child.signal("KILL")
        await prometheus.fires("AntigravityAbsent")

    async def test_rules_are_in_order(self) -> None:
        """As promtool sees it."""
        child = spawn(reactor, ["promtool", "check", "rules", str(RULES)], Path.cwd(), {})
        self.assertTrue(await child.ended_within(DEADLINE_SECONDS, reactor))
        self.assertEqual(child.exit_code, 0, child.printed)
        self.assertIn(f"{len(rules())} rules found", child.printed)
