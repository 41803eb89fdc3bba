"""Credentials added, changed and removed as files, by whoever steers the gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from gateway.calls import GatewayError
from gateway.config import load
from gateway.filing import Filing

OAUTH = {"client_id": "id", "client_secret": "secret"}
URLS = ["http://127.0.0.1:1"]


class FilingTests(TestCase):
    def setUp(self) -> None:
        self.home = Path(self.mktemp())
        self.home.mkdir()
        upstreams: dict[str, Any] = {
            "studio": {"kind": "aistudio", "credentials": [{"name": "fixed", "api_key": "good-1"}], "base_urls": URLS},
            "pool": {"kind": "codeassist", "oauth": OAUTH, "base_urls": URLS},
        }
        file = self.home / "gateway.yaml"
        file.write_text(json.dumps({"state_dir": "state", "upstreams": upstreams}))
        file.chmod(0o600)
        config = load(str(file), {})
        self.looks = 0
        self.filing = Filing(lambda: config, reactor, self.look)

    def look(self) -> None:
        self.looks += 1

    def held(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return what a credential's file holds."""
        document: dict[str, Any] = json.loads(Path(row["path"]).read_bytes())
        return document

    async def refused(self, waiting: Any) -> tuple[int, str]:
        error = await self.assertFailure(Deferred.fromCoroutine(waiting), GatewayError)
        return error.code, error.reason

    async def test_an_account_is_kept_changed_and_removed(self) -> None:
        """By its name, or by what logs call it; a running gateway looks at its files each time."""
        row = await self.filing.add(
            "pool", {"name": "ann@b.example", "refresh_token": "1//r", "email": "ann@b.example", "weight": 2.0}
        )
        self.assertEqual((row["name"], row["renewed"]), ("ann@b.example", False))
        self.assertNotIn("ann", row["label"])
        kept = {"name": "ann@b.example", "email": "ann@b.example", "refresh_token": "1//r", "weight": 2.0}
        self.assertEqual(self.held(row), kept)
        await self.filing.put("pool", row["label"].removeprefix("pool/"), {"weight": None, "priority": 3})
        changed = self.held(row)
        self.assertEqual((changed.get("weight"), changed["priority"]), (None, 3))
        again = await self.filing.add("pool", {"name": "ann@b.example", "refresh_token": "1//s"})
        self.assertEqual((again["renewed"], again["path"]), (True, row["path"]))
        await self.filing.remove("pool", "ann@b.example")
        self.assertRaises(FileNotFoundError, self.held, row)
        self.assertEqual(self.looks, 4)

    async def test_what_stands_in_the_configuration_stays(self) -> None:
        """It is neither replaced nor changed nor removed."""
        for waiting in (
            self.filing.put("studio", "fixed", {"weight": 2.0}),
            self.filing.remove("studio", "fixed"),
        ):
            self.assertEqual(await self.refused(waiting), (409, "CREDENTIAL_CONFIGURED"))
        added = self.filing.add("studio", {"name": "fixed", "api_key": "x"})
        self.assertEqual(await self.refused(added), (409, "NAME_CONFIGURED"))

    async def test_what_is_not_there_or_does_not_fit_is_told(self) -> None:
        """And nothing is written."""
        for waiting, told in (
            (self.filing.remove("studio", "nobody"), (404, "CREDENTIAL_UNKNOWN")),
            (self.filing.put("nowhere", "nobody", {}), (404, "UPSTREAM_UNKNOWN")),
            (self.filing.add("studio", {"name": "a", "refresh_token": "1//r"}), (400, "SECRET_MISSING")),
            (self.filing.add("studio", {"name": "a", "api_key": "two words"}), (400, "CREDENTIAL_INVALID")),
            (self.filing.add("pool", {"name": "a", "refresh_token": "1//r", "weight": 0}), (400, "CREDENTIAL_INVALID")),
        ):
            self.assertEqual(await self.refused(waiting), told)
        self.assertFalse(list(self.home.glob("**/a.json")))
