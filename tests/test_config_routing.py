"""The configuration of who serves a request."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import Terms
from gateway.config import Config, ConfigError, SessionsConfig, describe, load
from gateway.config.reader import STRATEGIES as NAMES
from gateway.routing.rotation import SESSION_LIMIT, SESSION_SECONDS, STRATEGIES
from tests.keyfiles import key_file

STUDIO = """
upstreams:
  studio:
    kind: aistudio
    {upstream}
    credentials:
      - {{name: first, api_key: k1{credential}}}
      - {{name: second, api_key: k2}}
"""
DIGEST = hashlib.sha256(b"op").digest()


class Files(SynchronousTestCase):
    """A directory for the files of a test."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def write(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text, "utf-8")
        path.chmod(0o600)
        return str(path)

    def load(self, text: str, upstream: str = "", credential: str = "") -> Config:
        text += STUDIO.format(upstream=upstream, credential=credential)
        return load(self.write("gateway.yaml", text), {"HOME": str(self.directory)})


class RoutingTests(Files):
    """What a file becomes."""

    def test_defaults_are_sticky_without_caps_and_without_waiting(self) -> None:
        """Nothing waits and nothing is capped unless the operator says so; the parts' own defaults are the same."""
        config = self.load("")
        self.assertEqual((config.routing.strategy, config.routing.sessions), ("sticky", SessionsConfig(20_000, 3600.0)))
        self.assertEqual((SESSION_LIMIT, SESSION_SECONDS), (20_000, 3600.0))
        self.assertEqual((config.timeouts.queue, config.limits.queue), (0.0, 100))
        self.assertEqual({one.terms for one in config.upstreams[0].credentials}, {Terms(1.0, 0, 0)})
        self.assertEqual((config.proxy.operator_keys, config.proxy.authenticates), ((), False))

    def test_every_strategy_can_be_configured(self) -> None:
        """The names of the file are those of the table."""
        self.assertEqual(set(NAMES), set(STRATEGIES))
        for name in NAMES:
            self.assertEqual(self.load(f"routing: {{strategy: {name}}}").routing.strategy, name)

    def test_sessions_and_queue_have_limits(self) -> None:
        """Durations with units; no waiting at all is 0."""
        config = self.load(
            "routing: {sessions: {limit: 5, seconds: 10m}}\ntimeouts: {queue: 30s}\nlimits: {queue: 7, body: 1MiB}\n"
        )
        self.assertEqual(config.routing.sessions, SessionsConfig(5, 600.0))
        self.assertEqual((config.timeouts.queue, config.limits.queue, config.limits.body), (30.0, 7, 1024**2))
        self.assertEqual(self.load("timeouts: {queue: 0}").timeouts.queue, 0.0)
        self.assertIn("queue 7,", describe(config))

    def test_upstreams_terms_are_its_credentials_defaults(self) -> None:
        """A credential's own go before them, one by one; accounts in files have the upstream's."""
        upstream = self.load(
            "", "weight: 2.5\n    priority: 3\n    max_concurrent: 4", ", priority: -1, max_concurrent: 0"
        ).upstreams[0]
        self.assertEqual(upstream.terms, Terms(2.5, 3, 4))
        self.assertEqual([one.terms for one in upstream.credentials], [Terms(2.5, -1, 0), Terms(2.5, 3, 4)])
        self.write("secret", "s")
        self.write("k.json", key_file())
        accounts, cloud = load(
            self.write(
                "other.yaml",
                "upstreams:\n  a: {kind: codeassist, priority: 2, oauth: {client_id: c, client_secret_file: secret}}\n"
                "  v: {kind: vertex, weight: 2, credentials: [{name: x, service_account_file: k.json, priority: 1}]}\n",
            ),
            {"HOME": str(self.directory)},
        ).upstreams
        self.assertEqual(accounts.terms, Terms(1.0, 2, 0))
        self.assertEqual(cloud.cloud[0].terms, Terms(2.0, 1, 0))

    def test_terms_are_described(self) -> None:
        """For --check: what differs from the default, and no key."""
        text = describe(self.load("proxy: {operator_key: op}", "priority: 1", ", weight: 3"))
        self.assertIn("each: weight 1, priority 1, any number of requests", text)
        self.assertIn("first: weight 3, priority 1", text)
        self.assertIn("1 key, one of them the operator's", text)

    def test_operator_key_is_a_key(self) -> None:
        """In clear or as a digest; it turns authentication on and lets a listener be open."""
        for text in ("op", f"'sha256:{DIGEST.hex()}'"):
            proxy = self.load(f"proxy: {{operator_key: {text}}}").proxy
            self.assertEqual((proxy.operator_keys, proxy.api_keys, proxy.keys), ((DIGEST,), (), (DIGEST,)))
            self.assertTrue(proxy.authenticates)
        self.load("proxy: {listen: 'tcp:8045', operator_key: op}")

    def test_every_mistake_names_its_path_and_cure(self) -> None:
        """Out of range, of another kind, of another name."""
        table = [
            ("routing: {strategy: stiky}", "", "routing.strategy", "did you mean 'sticky'?"),
            ("routing: {sessions: {limit: 0}}", "", "routing.sessions.limit", "write 1 to"),
            ("routing: {sessions: {seconds: 0}}", "", "routing.sessions.seconds", "more than 0"),
            ("routing: {sessions: {size: 1}}", "", "routing.sessions.size", "known here: limit, seconds"),
            ("timeouts: {queue: -1}", "", "timeouts.queue", "write 0 or more"),
            ("timeouts: {idle: 0}", "", "timeouts.idle", "write more than 0"),
            ("limits: {queue: 10KiB}", "", "limits.queue", "not a whole number"),
            ("proxy: {api_key: op, operator_key: op}", "", "proxy.operator_key", "choose another"),
            ("", "weight: 0", "upstreams.studio.weight", "more than 0"),
            ("", "weight: .nan", "upstreams.studio.weight", "more than 0"),
            ("", "weight: yes", "upstreams.studio.weight", "not a number"),
            ("", "priority: 1.5", "upstreams.studio.priority", "not a whole number"),
            ("", "max_concurrent: -1", "upstreams.studio.max_concurrent", "write 0 to"),
        ]
        for text, upstream, path, words in table:
            error = self.assertRaises(ConfigError, self.load, text, upstream)
            self.assertEqual(error.path, path)
            self.assertIn(words, str(error))
