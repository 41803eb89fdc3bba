"""The section of traces: what it becomes, and what is wrong with it."""

from __future__ import annotations

from gateway.config import ConfigError, OtelConfig, describe, load
from gateway.config.otel import MODULE
from tests.test_config import HOME, STUDIO, Files

HEADERS = "otel: {endpoint: 'http://c:4318', headers: {Authorization: 'Bearer canary'}}\n"

ERRORS = (
    ("otel: {endpoint: c}", "otel.endpoint", "http://127.0.0.1:4318"),
    ("otel: {endpoint: 'grpc://c:4317'}", "otel.endpoint", "OTLP over HTTP"),
    ("otel: {endpoint: 'http://user:canary@c'}", "otel.endpoint", "write otel.headers"),
    ("otel: {endpoint: 'http://c?key=canary'}", "otel.endpoint", "no user, query or fragment"),
    ("otel: {endpoint: 'http://c:x'}", "otel.endpoint", "no URL"),
    ("otel: {endpoint: 'http://c:0'}", "otel.endpoint", "no URL"),
    ("otel: {endpoint: 5}", "otel.endpoint", "in quotes"),
    ("otel: {headers: [a]}", "otel.headers", "not a mapping"),
    ("otel: {headers: {'a b': canary}}", 'otel.headers["a b"]', "header field"),
    ('otel: {headers: {a: "canary\\nb"}}', "otel.headers.a", "cannot travel in a header"),
    ("otel: {headers: {a: 5}}", "otel.headers.a", "in quotes"),
    ("otel: {sample: 2}", "otel.sample", "from 0"),
    ("otel: {sample: .nan}", "otel.sample", "from 0"),
    ("otel: {sample: true}", "otel.sample", "from 0"),
    ("otel: {propagate_upstream: 1}", "otel.propagate_upstream", "true"),
    ("otel: {service_name: ''}", "otel.service_name", "a name"),
    ("otel: {endpoints: x}", "otel.endpoints", "did you mean 'endpoint'?"),
)


class OtelTests(Files):
    def test_every_error_names_path_and_cure(self) -> None:
        """And repeats nothing that may be a secret."""
        for text, path, cure in ERRORS:
            error = self.assertRaises(ConfigError, self.load, f"{text}\n{STUDIO}", installed=lambda module: True)
            self.assertEqual(error.path, path, text)
            self.assertIn(cure, str(error))
            self.assertNotIn("canary", str(error))

    def test_section_becomes_what_it_says(self) -> None:
        """The base URL is that of OTLP: where it says so itself, nothing is added."""
        otel = self.load(HEADERS + STUDIO).otel
        ((name, value),) = otel.headers
        self.assertEqual((name, value.reveal(), otel.sample), ("authorization", "Bearer canary", 1.0))
        for endpoint, url in (
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/v1/traces"),
            ("https://c/api/otel", "https://c/api/otel/v1/traces"),
            ("https://c/v1/traces", "https://c/v1/traces"),
        ):
            self.assertEqual(OtelConfig(endpoint).traces_url, url)
        self.assertEqual(self.load(f"otel: {{sample: 0, endpoint: ''}}\n{STUDIO}").otel, OtelConfig(sample=0.0))

    def test_extra_is_missed_where_it_is_needed(self) -> None:
        """With an endpoint; without one nobody needs it."""
        without = {"installed": lambda module: module != MODULE}
        error = self.assertRaises(ConfigError, self.load, HEADERS + STUDIO, **without)
        self.assertEqual(error.path, "otel.endpoint")
        self.assertIn("antigravity-gateway[otel]", str(error))
        self.assertEqual(self.load(f"otel: {{sample: 0.5}}\n{STUDIO}", **without).otel.sample, 0.5)

    def test_collectors_key_in_a_file_for_everybody_is_warned_of(self) -> None:
        """As other secrets in clear are; --check shows where traces go, and no key."""
        config = load(self.write("gateway.yaml", HEADERS + STUDIO, 0o644), HOME)
        self.assertTrue(any("otel.headers.Authorization" in one for one in config.warnings), config.warnings)
        shown = describe(config)
        self.assertIn("traces: 100% of what has no traceparent, to http://c:4318/v1/traces as antigravity", shown)
        self.assertNotIn("canary", shown)
        self.assertIn("traces: none", describe(self.load(STUDIO)))
