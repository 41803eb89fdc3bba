"""The configuration of ways out: proxies towards upstreams, and the agent."""

from __future__ import annotations

from gateway.calls import Secret
from gateway.config import ConfigError, ProxyServer, WireConfig, describe, load
from tests.test_config import HOME, STUDIO, Files, studio
from tests.test_config_vertex import ADC, one

KEY = "credentials: [{name: first, api_key: k}]"


class ProxyTests(Files):
    """upstreams.<name>.proxy"""

    def proxy(self, url: str) -> ProxyServer | None:
        return self.load(studio(f"proxy: '{url}', {KEY}")).upstreams[0].proxy

    def test_both_kinds_are_read(self) -> None:
        """User names and passwords in percent-encoding, as in any URL."""
        table = (
            ("http://proxy.example:3128", ProxyServer("http", "proxy.example", 3128, "", Secret(""))),
            ("http://user@proxy.example:3128/", ProxyServer("http", "proxy.example", 3128, "user", Secret(""))),
            ("socks5://u%40x:p%3Aw@[::1]:1080", ProxyServer("socks5", "::1", 1080, "u@x", Secret("p:w"))),
            ("socks5h://127.0.0.1:1080", ProxyServer("socks5", "127.0.0.1", 1080, "", Secret(""))),
            ("", None),
        )
        for url, expected in table:
            with self.subTest(url=url):
                self.assertEqual(self.proxy(url), expected)

    def test_what_is_no_proxy_is_refused_without_repeating_it(self) -> None:
        """S12: a URL may hold a password."""
        for url in (
            "https://canary.example:1",
            "socks4://canary.example:1",
            "canary.example:3128",
            "http://canary.example",
            "http://canary.example:0",
            "http://canary.example:99999",
            "http://canary.example:1/path",
            "http://canary.example:1?a=b",
            "http://:canary@proxy.example:1",
            "http://u%3Acanary@proxy.example:1",
            "http://u:%FFcanary@proxy.example:1",
            "http://u:%0Acanary@proxy.example:1",
            "socks5://canary@proxy.example:1",
            f"socks5://u:{'canary' * 50}@proxy.example:1",
        ):
            with self.subTest(url=url):
                error = str(self.assertRaises(ConfigError, self.proxy, url))
                self.assertIn("upstreams.studio.proxy", error)
                self.assertNotIn("canary", error)

    def test_a_password_is_shown_nowhere(self) -> None:
        """S12: neither by --check nor by the value; others that may read the file are warned of."""
        text = studio(f"proxy: 'http://user:canary@proxy.example:3128', {KEY}")
        config = load(self.write("gateway.yaml", text, 0o644), HOME)
        self.assertIn("through: http://proxy.example:3128 with a user name", describe(config))
        self.assertNotIn("canary", describe(config) + repr(config))
        self.assertIn("upstreams.studio.proxy", config.warnings[0])

    def test_application_default_credentials_go_through_no_proxy(self) -> None:
        """google-auth fetches their tokens by itself."""
        text = one(ADC).replace("kind: vertex", "kind: vertex, proxy: 'http://127.0.0.1:3128'")
        self.assertIn("upstreams.cloud.proxy: google-auth", self.refused(text))


class WireTests(Files):
    """wire"""

    def test_agent_and_warmth_are_read(self) -> None:
        """The gateway's own agent, and one connection, unless the file says otherwise."""
        self.assertEqual(self.load(STUDIO).wire, WireConfig("gateway", 1))
        self.assertEqual(self.load("wire: {agent: stock, warm: 0}\n" + STUDIO).wire, WireConfig("stock", 0))

    def test_the_stock_agent_goes_through_no_proxy(self) -> None:
        """It says so before it runs."""
        text = "wire: {agent: stock}\n" + studio(f"proxy: 'http://127.0.0.1:3128', {KEY}")
        self.assertIn("upstreams.studio.proxy: the stock agent goes through no proxy", self.refused(text))
