"""The configuration: what a file, the environment and the simulator become, and what every mistake is told."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Mapping
from itertools import dropwhile
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import Secret
from gateway.config import (
    AdminConfig,
    AuthMode,
    Config,
    ConfigError,
    DoneMarker,
    EnvelopeConfig,
    Limits,
    LogConfig,
    ModelConfig,
    ProxyConfig,
    Timeouts,
    describe,
    from_environment,
    load,
    simulated,
)
from gateway.config.nodes import KNOWN
from gateway.config.tariff import Price, Rates, UsageConfig
from tests.keyfiles import key_file

HERE = Path(__file__).parent.parent
HOME = {"HOME": "/home/someone"}
KEY = "client-key"
DIGEST = hashlib.sha256(KEY.encode()).digest()

STUDIO = "upstreams: {studio: {kind: aistudio, credentials: [{name: first, api_key: k}]}}\n"
OAUTH = "oauth: {client_id: id, client_secret: hidden}"


def studio(members: str) -> str:
    return f"upstreams: {{studio: {{kind: aistudio, {members}}}}}\n"


def credential(members: str) -> str:
    return studio(f"credentials: [{{name: first, {members}}}]")


def accounts(members: str) -> str:
    return f"upstreams: {{pool: {{kind: codeassist, {members}}}}}\n"


class Files(SynchronousTestCase):
    """A directory for the file under test and the files that it names."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()

    def write(self, name: str, text: str | bytes, mode: int = 0o600) -> str:
        path = self.directory / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
        return str(path)

    def load(self, text: str | bytes, environ: Mapping[str, str] = HOME, **options: Any) -> Config:
        return load(self.write("gateway.yaml", text), environ, **options)

    def refused(self, text: str | bytes, environ: Mapping[str, str] = HOME) -> str:
        """Return the error's sentence after the file's name."""
        error = self.assertRaises(ConfigError, self.load, text, environ)
        source = str(self.directory / "gateway.yaml")
        self.assertTrue(str(error).startswith(source + ": "), str(error))
        return str(error).removeprefix(source + ": ")


HASH = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQxMjM0NTY$" + "A" * 43

ERRORS: tuple[tuple[str, str, str], ...] = (
    # What the file says, the path that the error names, and the words of its cure.
    ("proxy: {}", "upstreams", "name at least one"),
    ("", "upstreams", "name at least one"),
    ("- a\n", "", "not a mapping"),
    ("proxy: [a]\n" + STUDIO, "proxy", "not a mapping"),
    ("prxy: {}\n" + STUDIO, "prxy", "did you mean 'proxy'?"),
    ("proxy: {api_keys: a}\n" + STUDIO, "proxy.api_keys", "did you mean 'api_key'?"),
    ("zzz: 1\n" + STUDIO, "zzz", "known here: proxy, admin, upstreams"),
    ("1: 1\n" + STUDIO, "", "write it in quotes: '1'"),
    ('"a b": 1\n' + STUDIO, '["a b"]', "unknown"),
    # Later versions.
    ("admin: {listen: 'tcp:9'}\n" + STUDIO, "admin.listen", "there is neither admin.token nor admin.password"),
    ("admin: {password: secret-words}\n" + STUDIO, "admin.password", "write what `antigravity password` prints"),
    ("admin: {password: '$argon2id$v=19$m=9999999,t=2,p=1$c29tZXNhbHQ$" + "A" * 43 + "'}\n" + STUDIO, "admin.password",
     "this is no hash"),
    ("admin: {dashboard: maybe}\n" + STUDIO, "admin.dashboard", "auto, on, off"),
    ("admin: {session_idle: 0}\n" + STUDIO, "admin.session_idle", "more than 0"),
    ("admin: {session_most: 2d}\n" + STUDIO, "admin.session_most", "at most 86400"),
    ("admin: {listen: 'unix:/tmp/x'}\n" + STUDIO, "admin.listen", "mode=600"),
    ("admin: {listen: 'tcp:8045:interface=127.0.0.1'}\n" + STUDIO, "admin.listen", "choose another port"),
    ("admin: {token: 'sha256:x'}\n" + STUDIO, "admin.token", "64 hexadecimal digits"),
    ("proxy: {client_ca: ca.pem}\n" + STUDIO, "proxy.client_ca", "listen on ssl:"),
    ("upstreams: {cloud: {kind: vertex}}", "upstreams.cloud", "it has no credentials"),
    (credential("service_account_file: x"), "credentials[0].service_account_file", "only kind vertex has this"),
    # YAML.
    ("proxy: {listen: [\n", "line 2, column 1", "mend the YAML"),
    ("proxy:\n  listen: a\n listen: b\n", "line 3, column 2", "mend the YAML"),
    ("proxy: {}\nproxy: {}\n" + STUDIO, "proxy", "written twice, in lines 1 and 2"),
    ("log: {level: info, level: warn}\n" + STUDIO, "log.level", "written twice"),
    (studio("credentials: [{name: a, name: b}]"), "credentials[0].name", "written twice"),
    ("a: !!python/object/apply:os.getcwd []\n", "line 1, column 4", "mend the YAML"),
    ("? [a]\n: b\n", "line 1, column 3", "not a plain word"),
    ("a: 1\n---\nb: 2\n", "line 2, column 1", "mend the YAML"),
    # Listeners.
    ("proxy: {listen: 8045}\n" + STUDIO, "proxy.listen", "tcp:8045:interface=127.0.0.1"),
    ("proxy: {listen: []}\n" + STUDIO, "proxy.listen", "name a listener"),
    ('proxy: {listen: ["udp:1"]}\n' + STUDIO, "proxy.listen[0]", "begins with one of tcp:, tcp6:"),
    ('proxy: {listen: "8045"}\n' + STUDIO, "proxy.listen", "begins with one of"),
    ('proxy: {listen: ""}\n' + STUDIO, "proxy.listen", "begins with one of"),
    ('proxy: {listen: "tcp:"}\n' + STUDIO, "proxy.listen", "has no port"),
    ('proxy: {listen: "tcp:http"}\n' + STUDIO, "proxy.listen", "no number from 0 to 65535"),
    ('proxy: {listen: "tcp:65536"}\n' + STUDIO, "proxy.listen", "no number from 0 to 65535"),
    ('proxy: {listen: "tcp:1:intrface=127.0.0.1"}\n' + STUDIO, "proxy.listen", "no parameter 'intrface'"),
    ('proxy: {listen: "tcp:1:127.0.0.1"}\n' + STUDIO, "proxy.listen", "only the first parameter"),
    ('proxy: {listen: "unix:"}\n' + STUDIO, "proxy.listen", "has no address"),
    ('proxy: {listen: "systemd:domain=TCP:index=0"}\n' + STUDIO, "proxy.listen", "INET"),
    ('proxy: {listen: "systemd:domain=INET"}\n' + STUDIO, "proxy.listen", "a name or an index"),
    ("proxy: {listen: 'tcp:1\\'}\n" + STUDIO, "proxy.listen", "no endpoint description"),
    ('proxy: {listen: ["unix:a", "unix:a"]}\n' + STUDIO, "proxy.listen[1]", "named twice"),
    # Who is let in.
    ('proxy: {listen: "tcp:8045", auth_mode: off, api_key: a}\n' + STUDIO, "proxy.auth_mode", "refuses"),
    ("proxy: {auth_mode: on}\n" + STUDIO, "proxy.auth_mode", "write strict"),
    ("proxy: {auth_mode: strickt}\n" + STUDIO, "proxy.auth_mode", "did you mean 'strict'?"),
    ("proxy: {done_marker: sometimes}\n" + STUDIO, "proxy.done_marker", "auto, never, always"),
    ("proxy: {api_key: 12345}\n" + STUDIO, "proxy.api_key", "write the value in quotes"),
    ("proxy: {api_key: 'sha256:12'}\n" + STUDIO, "proxy.api_key", "64 hexadecimal digits"),
    ("proxy: {api_key: 'two words'}\n" + STUDIO, "proxy.api_key", "without spaces"),
    # Upstreams.
    ("upstreams: {}", "upstreams", "name one"),
    ("upstreams: [a]", "upstreams", "not a mapping"),
    ("upstreams: {studio: }", "upstreams.studio", "not a mapping"),
    ("upstreams: {a/b: {kind: aistudio}}", 'upstreams["a/b"]', "use letters"),
    ("upstreams: {'..': {kind: aistudio}}", 'upstreams[".."]', "use letters"),
    ("upstreams: {studio: {}}", "upstreams.studio", "write kind: aistudio or kind: codeassist"),
    ("upstreams: {studio: {kind: ai-studio}}", "upstreams.studio.kind", "did you mean 'aistudio'?"),
    ("upstreams: {studio: {kind: aistudio}}", "upstreams.studio", "it has no credentials"),
    (studio("credentials: []"), "upstreams.studio.credentials", "it has no credentials"),
    (studio("credentials: {name: a}"), "upstreams.studio.credentials", "not a list"),
    (studio("base_urls: []"), "upstreams.studio.base_urls", "name a URL"),
    (studio("models: ['a b']"), "upstreams.studio.models[0]", "a model id, or a pattern with *"),
    (studio("models: ['../x']"), "upstreams.studio.models[0]", "a model id, or a pattern with *"),
    (studio(OAUTH), "upstreams.studio.oauth", "only kind codeassist has this; remove it"),
    (accounts("credentials: []"), "upstreams.pool.credentials", "only kind aistudio"),
    # Credentials.
    (studio("credentials: [{api_key: k}]"), "credentials[0]", "it has no name"),
    (studio("credentials: [{name: 'me@x', api_key: k}]"), "credentials[0].name", "write letters"),
    (
        studio("credentials: [{name: a, api_key: k}, {name: a, api_key: l}]"),
        "credentials[1].name",
        "give each credential a name of its own",
    ),
    (credential("project: ''"), "credentials[0]", "write exactly one of them"),
    (credential("api_key: k, api_key_env: E"), "credentials[0]", "2 are given of api_key"),
    (credential("api_key: 'two words'"), "credentials[0].api_key", "in printable ASCII"),
    (credential("api_key_env: MISSING"), "credentials[0].api_key_env", "$MISSING is not set"),
    (credential("api_key_file: missing"), "credentials[0].api_key_file", "No such file"),
    (credential("api_key_file: ."), "credentials[0].api_key_file", "directory"),
    (credential("api_key: k, project: 'a b'"), "credentials[0].project", "a Google project id"),
    # OAuth and the envelope.
    (accounts("project: p"), "upstreams.pool", "No OAuth client is bundled"),
    (accounts("oauth: {client_id: ''}"), "upstreams.pool.oauth.client_id", "No OAuth client is bundled"),
    (accounts("oauth: {client_id: a}"), "upstreams.pool.oauth", "none is given of client_secret"),
    (
        accounts("oauth: {client_id: a, client_secret: b, auth_url: 'http://x/'}"),
        "upstreams.pool.oauth.auth_url",
        "plain http would send keys in clear",
    ),
    (
        accounts("oauth: {client_id: a, client_secret: b, userinfo_url: 'https://x/?a=b'}"),
        "upstreams.pool.oauth.userinfo_url",
        "no query",
    ),
    (
        accounts("oauth: {client_id: a, client_secret: b, token_url: 'http://x/'}"),
        "upstreams.pool.oauth.token_url",
        "write https://",
    ),
    (accounts(OAUTH + ", envelope: {profile: x}"), "pool.envelope.profile", "antigravity, gemini-cli"),
    (accounts(OAUTH + ', envelope: {user_agent: "a\\nb"}'), "envelope.user_agent", "printable ASCII"),
    (accounts(OAUTH + ", envelope: {request_type: 'a b'}"), "envelope.request_type", "one word"),
    (accounts(OAUTH + ", credentials_dir: ''"), "pool.credentials_dir", "name a directory"),
    (
        f"upstreams: {{a: {{kind: codeassist, {OAUTH}}}, b: {{kind: codeassist, {OAUTH}}}}}",
        "upstreams.b",
        "write another credentials_dir",
    ),
    # Routing.
    ("routing: {max_attempts: 0}\n" + STUDIO, "routing.max_attempts", "write 1 to 10"),
    ("routing: {max_attempts: 11}\n" + STUDIO, "routing.max_attempts", "write 1 to 10"),
    ("routing: {max_attempts: true}\n" + STUDIO, "routing.max_attempts", "a yes or no"),
    ("routing: {max_attempts: 2.0}\n" + STUDIO, "routing.max_attempts", "not a whole number"),
    ("routing: {aliases: {'gpt-?': m}}\n" + STUDIO, 'routing.aliases["gpt-?"]', "* for any run"),
    ("routing: {aliases: {1.5: m}}\n" + STUDIO, "routing.aliases", "write it in quotes: '1.5'"),
    ("routing: {aliases: {a: ''}}\n" + STUDIO, "routing.aliases.a", "write a model id"),
    ("routing: {aliases: {a: }}\n" + STUDIO, "routing.aliases.a", "this is empty, not text"),
    ("routing: {aliases: {a: 'b*'}}\n" + STUDIO, "routing.aliases.a", "write a model id"),
    ("routing: {aliases: {a: /b}}\n" + STUDIO, "routing.aliases.a", "write a model id"),
    ("routing: {aliases: {a: b..c}}\n" + STUDIO, "routing.aliases.a", "write a model id"),
    ("routing: {aliases: {a: models/b}}\n" + STUDIO, "routing.aliases.a", "; write b"),
    # Amounts.
    ("timeouts: {connect: 0}\n" + STUDIO, "timeouts.connect", "more than 0"),
    ("timeouts: {connect: -1}\n" + STUDIO, "timeouts.connect", "more than 0"),
    ("timeouts: {connect: true}\n" + STUDIO, "timeouts.connect", "a yes or no, not an amount"),
    ("timeouts: {connect: 5 parsecs}\n" + STUDIO, "timeouts.connect", "such as 90s"),
    ("timeouts: {connect: 1w}\n" + STUDIO, "timeouts.connect", "such as 90s"),
    ("timeouts: {connect: .inf}\n" + STUDIO, "timeouts.connect", "out of range"),
    ("timeouts: {connect: .nan}\n" + STUDIO, "timeouts.connect", "out of range"),
    ("timeouts: {connect: 25h}\n" + STUDIO, "timeouts.connect", "at most 86400 seconds"),
    ("timeouts: {connect: [1]}\n" + STUDIO, "timeouts.connect", "a list, not an amount"),
    ("limits: {body: 100MB}\n" + STUDIO, "limits.body", "such as 16KiB"),
    ("limits: {body: 1.5}\n" + STUDIO, "limits.body", "a whole number"),
    ("limits: {body: -5}\n" + STUDIO, "limits.body", "out of range"),
    ("limits: {head: 1GiB}\n" + STUDIO, "limits.head", "write 1024 to 1048576 bytes"),
    ("limits: {target: false}\n" + STUDIO, "limits.target", "a yes or no, not an amount"),
    # What the door allows.
    ("proxy: {half_close: stay}\n" + STUDIO, "proxy.half_close", "leave, answer"),
    ("limits: {streams: 0}\n" + STUDIO, "limits.streams", "write 1 to"),
    ("limits: {connections: 0}\n" + STUDIO, "limits.connections", "write 1 to"),
    ("limits: {key_concurrent: -1}\n" + STUDIO, "limits.key_concurrent", "write 0 to"),
    ("limits: {key_per_minute: 1.5}\n" + STUDIO, "limits.key_per_minute", "write 0 to"),
    ("limits: {body_rate: 0}\n" + STUDIO, "limits.body_rate", "write 1 to"),
    ("limits: {buffered: 1MiB}\n" + STUDIO, "limits.buffered", "raise limits.buffered"),
    ("limits: {body: 2GiB}\n" + STUDIO, "limits.body", "raise limits.buffered"),
    ("timeouts: {head: 0}\n" + STUDIO, "timeouts.head", "more than 0"),
    # Names and origins.
    ("proxy: {hosts: x}\n" + STUDIO, "proxy.hosts", "not a list"),
    ("proxy: {hosts: [1]}\n" + STUDIO, "proxy.hosts[0]", "write the value in quotes"),
    ("proxy: {hosts: ['a.example:80']}\n" + STUDIO, "proxy.hosts[0]", "without scheme and port"),
    ("proxy: {hosts: ['https://a.example']}\n" + STUDIO, "proxy.hosts[0]", "without scheme and port"),
    ("proxy: {hosts: ['*']}\n" + STUDIO, "proxy.hosts[0]", "without scheme and port"),
    ("proxy: {hosts: ['a.*.example']}\n" + STUDIO, "proxy.hosts[0]", "without scheme and port"),
    ("proxy: {trusted_proxies: [x]}\n" + STUDIO, "proxy.trusted_proxies[0]", "10.0.0.0/24"),
    ("proxy: {trusted_proxies: [10.0.0.1/24]}\n" + STUDIO, "proxy.trusted_proxies[0]", "no address or network"),
    ("proxy: {origins: ['*']}\n" + STUDIO, "proxy.origins[0]", "never * or null"),
    ("proxy: {origins: ['null']}\n" + STUDIO, "proxy.origins[0]", "never * or null"),
    ("proxy: {origins: ['a.example']}\n" + STUDIO, "proxy.origins[0]", "https://app.example.org"),
    ("proxy: {origins: ['https://a.example/path']}\n" + STUDIO, "proxy.origins[0]", "without path"),
    # Models and the log.
    ("models: [a]\n" + STUDIO, "models", "not a mapping"),
    ("models: {models/a: {}}\n" + STUDIO, 'models["models/a"]', "without models/"),
    ("models: {a: {limit: 1}}\n" + STUDIO, "models.a.limit", "unknown"),
    ("models: {a: {input_token_limit: 0}}\n" + STUDIO, "models.a.input_token_limit", "write 1 to"),
    ("models: {a: {methods: [a:b]}}\n" + STUDIO, "models.a.methods[0]", "generateContent"),
    ("log: {level: warning}\n" + STUDIO, "log.level", "did you mean 'warn'?"),
    ("log: {format: xml}\n" + STUDIO, "log.format", "auto, text, json"),
    ("log: {levels: [wire]}\n" + STUDIO, "log.levels", "not a mapping"),
    ("log: {levels: {wires: warn}}\n" + STUDIO, "log.levels.wires", "did you mean 'wire'?"),
    ("log: {levels: {wire: loud}}\n" + STUDIO, "log.levels.wire", "debug, info, warn, error"),
    ("log: {rotate: {size: 5}}\n" + STUDIO, "log.rotate.size", "out of range"),
    ("log: {rotate: {size: 1MiB, keep: -1}}\n" + STUDIO, "log.rotate.keep", "write 0 to"),
    ("log: {rotate: {days: 1}}\n" + STUDIO, "log.rotate.days", "unknown"),
    # Usage.
    ("usage: {enabled: 1}\n" + STUDIO, "usage.enabled", "write true or false"),
    ("usage: {keep: 0}\n" + STUDIO, "usage.keep", "more than 0"),
    ("usage: {keep: 59m}\n" + STUDIO, "usage.keep", "write 1h or more"),
    ("usage: {keep: 2y}\n" + STUDIO, "usage.keep", "such as 90s"),
    ("usage: {keep_rollups: 1d}\n" + STUDIO, "usage.keep_rollups", "be usage.keep or more"),
    ("usage: {keep: 900d}\n" + STUDIO, "usage.keep", "be usage.keep or more"),
    ("usage: {size: 1KiB}\n" + STUDIO, "usage.size", "write 1048576 to"),
    ("usage: {prices: {m: 1}}\n" + STUDIO, "usage.prices.m", "not a mapping"),
    ("usage: {prices: {m: {input: 1}}}\n" + STUDIO, "usage.prices.m", "there is no output"),
    ("usage: {prices: {m: {input: -1, output: 1}}}\n" + STUDIO, "usage.prices.m.input", "out of range"),
    ("usage: {prices: {m: {input: false, output: 1}}}\n" + STUDIO, "usage.prices.m.input", "not a number"),
    ("usage: {prices: {m: {input: 1, output: 1, over_200k: {}}}}\n" + STUDIO, "m.over_200k", "there is no input"),
    ("usage: {prices: {'a b': {input: 1, output: 1}}}\n" + STUDIO, 'usage.prices["a b"]', "* for any run"),
    ("state_dir: 5\n" + STUDIO, "state_dir", "write the value in quotes"),
)

BAD_URLS: tuple[tuple[str, str], ...] = (
    ("http://generativelanguage.googleapis.com", "plain http would send keys in clear"),
    ("http://127.0.0.2", "plain http"),
    ("http://localhost.example.com", "plain http"),
    ("http://127.0.0.1@example.com/", "no user or password"),
    ("https://user:password@example.com", "no user or password"),
    ("https://example.com/?key=a", "no query"),
    ("https://example.com?", "no query"),
    ("https://example.com/#a", "no query, fragment"),
    ("https://example.com/a b", "odd characters"),
    ("https://example.com:99999", "this is no URL"),
    ("https://example.com:0", "this is no URL"),
    ("https://", "this is no URL"),
    ("https://[::1", "this is no URL"),
    ("https://b\u00fccher.example", "this is no URL"),
    ("example.com", "this is no URL"),
    ("ftp://example.com", "neither https nor http"),
    ("file:///etc/passwd", "this is no URL"),
)


class Errors(Files):
    """A mistake is told in one sentence: where, what, and the cure."""

    def test_every_mistake_names_its_path_and_cure(self) -> None:
        """The path stands at the beginning, the cure after the semicolon."""
        for text, path, words in ERRORS:
            sentence = self.refused(text)
            place = sentence.partition(": ")[0]
            self.assertTrue(place.endswith(path) if path else True, f"{path} is not in {sentence}")
            self.assertIn(words, sentence, text)
            self.assertIn("; ", sentence, text)
            self.assertNotIn("\n", sentence, text)

    def test_base_url_that_would_leak_or_mislead_is_refused(self) -> None:
        """Only https, or http towards this machine, and nothing in it but a place."""
        for url, words in BAD_URLS:
            sentence = self.refused(studio(f"base_urls: ['{url}']"))
            self.assertTrue(sentence.startswith("upstreams.studio.base_urls[0]: "), sentence)
            self.assertIn(words, sentence, url)

    def test_no_error_shows_a_secret(self) -> None:
        """A secret that does not fit is not repeated in the sentence, nor is a password in a URL."""
        for text in (
            credential("api_key: 'hid den'"),
            accounts("oauth: {client_id: a, client_secret: 'hid den'}"),
            "proxy: {api_key: 'hid den'}\n" + STUDIO,
            "proxy: {api_key: 'sha256:hid den'}\n" + STUDIO,
            studio("base_urls: ['https://user:hid den@example.com']"),
            studio("base_urls: ['https://example.com?key=hid den']"),
        ):
            sentence = self.refused(text)
            self.assertNotIn("den", sentence.replace("credential", ""))
        sentence = self.refused(credential("api_key_env: KEY"), {**HOME, "KEY": "hid den"})
        self.assertNotIn("hid", sentence)

    def test_file_that_is_not_there_is_named(self) -> None:
        """The path is as the operator wrote it."""
        error = self.assertRaises(ConfigError, load, "missing.yaml", HOME)
        self.assertTrue(str(error).startswith("missing.yaml: the file cannot be read (No such file"))

    def test_file_that_is_not_text_is_refused(self) -> None:
        """Bytes that no YAML is made of are one sentence too."""
        for data in (b"\xff\xff\xff", b"a: \x00", b"a: \xc3(", b"a: 2026-13-45\n"):
            self.assertIn("YAML", self.refused(data))

    def test_text_that_no_setting_can_hold_is_refused(self) -> None:
        """YAML's escapes write NUL and half characters, which neither a file's nor a variable's name can hold."""
        for escape in ("\\0", "\\ud800", "\\x7f"):
            for name in ("api_key", "api_key_env", "api_key_file"):
                said = self.refused(credential(f'{name}: "a{escape}b"'))
                self.assertTrue(said.startswith(f"upstreams.studio.credentials[0].{name}: the text holds"), said)
            self.assertIn("the text holds", self.refused(f'"a{escape}": 1'))

    def test_tag_that_does_not_fit_is_refused(self) -> None:
        """What ``!!timestamp`` and its like make of a word is no setting, and may not even be possible."""
        for tag in ("timestamp", "bool", "int", "binary"):
            said = self.refused(f"{STUDIO}state_dir: !!{tag} x")
            self.assertIn(f"state_dir: a tag makes it tag:yaml.org,2002:{tag}", said)

    def test_sentence_is_one_printable_line(self) -> None:
        """Whatever name is quoted in it."""
        said = self.refused(credential('api_key_env: "a\\nb\\u2028c"'))
        self.assertIn("$a\\nb\\u2028c is not set", said)

    def test_document_that_holds_itself_is_refused(self) -> None:
        """An alias to an enclosing value ends in a sentence, not in a loop."""
        self.assertIn("unknown", self.refused("a: &a [*a]\n"))
        self.assertIn("not a whole number", self.refused("routing: &r {max_attempts: *r}\n" + STUDIO))

    def test_secret_file_that_others_may_read_is_refused(self) -> None:
        """The cure is the command."""
        for mode in (0o640, 0o604, 0o660):
            path = self.write("key", "k\n", mode)
            sentence = self.refused(credential("api_key_file: key"))
            self.assertTrue(sentence.endswith(f"run: chmod 600 {path}"), sentence)

    def test_secret_file_without_a_secret_is_refused(self) -> None:
        """Empty, binary, or more than one line."""
        for data in ("", "\n", b"\xff\xfe", "two\nlines\n", "a" * 70000):
            self.write("key", data)
            self.assertIn("credentials[0].api_key_file: ", self.refused(credential("api_key_file: key")))


class Reading(Files):
    """What a file becomes."""

    def test_defaults_are_the_documented_ones(self) -> None:
        """A file with nothing but an upstream has every other value at its default."""
        config = self.load(STUDIO)
        self.assertEqual(config.proxy, ProxyConfig(("tcp:8045:interface=127.0.0.1",)))
        self.assertEqual(config.timeouts, Timeouts(10, 600, 120, 120, 600, 60))
        sizes, numbers = (104857600, 67108864, 16384, 8192), (100, 1024, 1073741824, 10000, 5000, 0, 0)
        self.assertEqual(attrs.astuple(config.limits), sizes + numbers)
        self.assertEqual((config.routing.max_attempts, config.routing.aliases), (3, ()))
        self.assertEqual(config.log, LogConfig("info", "auto"))
        self.assertEqual(config.upstreams[0].base_urls, ("https://generativelanguage.googleapis.com",))
        self.assertEqual((config.models, config.warnings), ((), ()))

    def test_log_says_how_much_of_whom_is_kept(self) -> None:
        """Levels of subsystems, and at what size its file is put aside; 0 is never."""
        log = self.load("log: {levels: {admin: debug, wire: warn}, rotate: {size: 1MiB, keep: 3}}\n" + STUDIO).log
        self.assertEqual(log, LogConfig("info", "auto", (("admin", "debug"), ("wire", "warn")), 2**20, 3))
        self.assertEqual((log.level_of("admin"), log.level_of("edge")), ("debug", "info"))
        self.assertEqual(self.load("log: {rotate: {size: 0}}\n" + STUDIO).log.rotate_bytes, 0)

    def test_sections_left_empty_are_defaults(self) -> None:
        """A key with nothing after it is as if it were not there."""
        self.assertEqual(self.load("proxy:\nlog:\n  level:\nlimits:\nstate_dir:\n" + STUDIO), self.load(STUDIO))

    def test_example_file_starts_with_a_key_and_says_the_defaults(self) -> None:
        """conf/antigravity.yaml is the configuration of the environment, written out."""
        environ = {**HOME, "GEMINI_API_KEY": "k"}
        example = load(str(HERE / "conf" / "antigravity.yaml"), environ)
        built_in = from_environment(environ)
        self.assertEqual(
            attrs.evolve(example, upstreams=(), source=""), attrs.evolve(built_in, upstreams=(), source="")
        )
        self.assertEqual(example.upstreams[0].credentials[0].api_key, Secret("k"))

    def test_example_file_s_other_upstreams_are_right_too(self) -> None:
        """What is commented out loads once its marks are taken away and its secrets exist."""
        self.write("client-secret", "hidden\n")
        self.write("service-account.json", key_file())
        config = self.load(self.uncommented(), {**HOME, "GEMINI_API_KEY": "k"})
        self.assertEqual([upstream.name for upstream in config.upstreams], ["studio", "accounts", "cloud"])
        self.assertEqual(config.upstreams[1].envelope, EnvelopeConfig())
        self.assertEqual(config.upstreams[2].cloud[0].project, "its-project")

    def uncommented(self) -> str:
        """Return the example file with all its upstreams."""
        text = (HERE / "conf" / "antigravity.yaml").read_text("utf-8")
        head, mark, tail = text.partition("  # accounts:\n")
        blocks, end, rest = (mark + tail).partition("\nrouting:")
        block = ""
        for paragraph in blocks.split("\n\n"):
            # In front of an upstream's name stands prose.
            lines = dropwhile(lambda line: not re.fullmatch("  # [a-z]+:", line), paragraph.splitlines())
            block += "".join("  " + line[4:] + "\n" for line in lines)
        return head + block + end + rest

    def test_example_file_s_upstreams_say_the_defaults(self) -> None:
        """What it shows of each kind beside what has to be given is what counts where that alone is given."""
        self.write("client-secret", "hidden\n")
        self.write("service-account.json", key_file())
        least = (
            "upstreams:\n"
            "  studio: {kind: aistudio, credentials: [{name: first, api_key_env: GEMINI_API_KEY}]}\n"
            "  accounts:\n    kind: codeassist\n"
            "    oauth: {client_id: your-own.apps.googleusercontent.com, client_secret_file: client-secret}\n"
            "  cloud: {kind: vertex, credentials: [{name: first, service_account_file: service-account.json}]}\n"
        )
        environ = {**HOME, "GEMINI_API_KEY": "k"}
        self.assertEqual(self.load(self.uncommented(), environ).upstreams, self.load(least, environ).upstreams)

    def test_page_s_tables_say_the_defaults(self) -> None:
        """The tables of timeouts and limits in docs/configure.rst have every member, with its default."""
        page = (HERE / "docs" / "configure.rst").read_text("utf-8")
        for section, default in (("timeouts", Timeouts()), ("limits", Limits())):
            found = re.search(rf"^``{section}``\n-+\n(.*?)(?=^[^\n]+\n-+\n)", page, re.MULTILINE | re.DOTALL)
            assert found is not None
            rows = re.findall(r"^``(\w+)`` +``(\w+)`` ", found[1], re.MULTILINE)
            self.assertEqual({name for name, _ in rows}, set(attrs.asdict(default)))
            written = ", ".join(f"{name}: {value}" for name, value in rows)
            self.assertEqual(getattr(self.load(f"{section}: {{{written}}}\n" + STUDIO), section), default)

    def test_every_key_is_documented_and_in_the_example(self) -> None:
        """What can be written is explained in docs/configure.rst and shown in conf/antigravity.yaml."""
        page = (HERE / "docs" / "configure.rst").read_text("utf-8")
        example = (HERE / "conf" / "antigravity.yaml").read_text("utf-8")
        for keys in KNOWN.values():
            for key in keys:
                self.assertIn(f"``{key}``", page)
                self.assertIn(key, example)

    def test_the_watchers_side_is_loopback_private_or_has_a_token(self) -> None:
        """S4: what is reached by others asks for a token; the default is on loopback, and an empty one is none."""
        self.assertEqual(self.load(STUDIO).admin, AdminConfig(("tcp:8046:interface=127.0.0.1",), ()))
        for listen in ("''", "off"):
            self.assertEqual(self.load(f"admin: {{listen: {listen}}}\n" + STUDIO).admin.listen, ())
        private = self.load("admin: {listen: 'unix:/run/x:mode=600'}\n" + STUDIO)
        self.assertEqual((private.admin.listen, private.admin.chosen), (("unix:/run/x:mode=600",), True))
        open_one = self.load("admin: {listen: 'tcp:9', token: secret}\n" + STUDIO)
        self.assertEqual(open_one.admin.tokens, (hashlib.sha256(b"secret").digest(),))

    def test_dashboard_is_off_beyond_loopback_unless_it_is_asked_for(self) -> None:
        """Who set up metrics for others has not opened the steering to them."""
        for text, on in (
            ("{}", True),
            ("{listen: 'unix:/run/x:mode=600'}", True),
            ("{dashboard: off}", False),
            ("{listen: 'tcp:9', token: secret}", False),
            ("{listen: ['tcp:9', 'tcp:8:interface=127.0.0.1'], token: secret}", False),
            ("{listen: 'tcp:9', token: secret, dashboard: on}", True),
            (f"{{listen: 'tcp:9', password: '{HASH}', dashboard: on}}", True),
        ):
            config = self.load(f"admin: {text}\n" + STUDIO)
            self.assertEqual(config.admin.dashboard, on, text)
            warned = any("carries passwords and sessions in clear" in one for one in config.warnings)
            self.assertEqual(warned, on and "tcp:9" in text, text)

    def test_a_token_that_could_be_guessed_is_warned_of(self) -> None:
        """Wherever somebody can try; of one that is given as its digest nobody knows."""
        long, digest = "0123456789abcdef", f"sha256:{hashlib.sha256(b'x').hexdigest()}"
        for text, warned in (
            ("{token: 0123456789abcde}", True),
            ("{listen: 'tcp:9', token: secret}", True),
            ("{listen: off, token: secret}", False),
            ("{token: ''}", False),
            (f"{{token: {long}}}", False),
            (f"{{token: '{digest}'}}", False),
        ):
            config = self.load(f"admin: {text}\n" + STUDIO)
            self.assertEqual(any("could be guessed" in one for one in config.warnings), warned, text)

    def test_sessions_last_as_long_as_is_said(self) -> None:
        """An hour without use and half a day in all, if nothing is said."""
        usual, other = self.load(STUDIO), self.load("admin: {session_idle: 5m, session_most: 1h}\n" + STUDIO)
        self.assertEqual((usual.admin.session_idle, usual.admin.session_most), (3600.0, 43200.0))
        self.assertEqual((other.admin.session_idle, other.admin.session_most), (300.0, 3600.0))

    def test_client_ca_is_a_path(self) -> None:
        """Relative ones start at the file's directory."""
        text = "proxy: {listen: 'ssl:1:interface=127.0.0.1:privateKey=k', client_ca: ca.pem}\n" + STUDIO
        self.assertEqual(self.load(text).proxy.client_ca, str(self.directory / "ca.pem"))

    def test_hosts_and_origins_are_kept_in_plain_form(self) -> None:
        """Lower case, no default port, IPv6 addresses with or without their brackets."""
        text = (
            "proxy: {hosts: [Gateway.Example.ORG., '*.Example.org', 10.0.0.1, '[FE80::0001]', '2001:db8::2'],"
            " origins: ['HTTPS://App.Example:443', 'http://a.example:8080', 'chrome-extension://abc']}\n"
        )
        proxy = self.load(text + STUDIO).proxy
        self.assertEqual(
            proxy.hosts, ("gateway.example.org", "*.example.org", "10.0.0.1", "fe80::1", "2001:db8::2")
        )
        text = "proxy: {trusted_proxies: [10.0.0.5, 10.1.0.0/16, '2001:db8::/64', unix]}\n"
        trusted = self.load(text + STUDIO).proxy.trusted_proxies
        self.assertEqual(trusted, ("10.0.0.5/32", "10.1.0.0/16", "2001:db8::/64", "unix"))
        self.assertEqual(proxy.origins, ("https://app.example", "http://a.example:8080", "chrome-extension://abc"))

    def test_amounts_are_seconds_and_bytes(self) -> None:
        """Numbers, and text with a unit."""
        for text, seconds in (
            ("7", 7),
            ("0.5", 0.5),
            ("90s", 90),
            ("2m", 120),
            ("1h", 3600),
            ("500ms", 0.5),
            ("'8'", 8),
            ("1.5 s", 1.5),
        ):
            found = self.load(f"timeouts: {{idle: {text}}}\n" + STUDIO).timeouts.idle
            self.assertEqual(found, seconds)
        for text, size in (
            ("2048", 2048),
            ("16KiB", 16384),
            ("1.5KiB", 1536),
            ("2MiB", 2097152),
            ("1GiB", 1073741824),
            ("4096B", 4096),
        ):
            limit = self.load(f"limits: {{body: {text}}}\n" + STUDIO).limits.body
            self.assertEqual((limit, type(limit)), (size, int))

    def test_client_key_is_kept_as_its_digest(self) -> None:
        """In clear or as a digest it is the same 32 bytes; blank is none."""
        for text, keys in (
            (KEY, (DIGEST,)),
            (f"' {KEY} '", (DIGEST,)),
            (f"'sha256:{DIGEST.hex()}'", (DIGEST,)),
            (f"'sha256:{DIGEST.hex().upper()}'", (DIGEST,)),
            ("''", ()),
            ("'  '", ()),
            ("", ()),
        ):
            self.assertEqual(self.load(f"proxy: {{api_key: {text}}}\n" + STUDIO).proxy.api_keys, keys)

    def test_bare_off_is_a_mode(self) -> None:
        """YAML reads `off` as false; it means the mode."""
        for text in ("off", "'off'", "false"):
            self.assertIs(self.load(f"proxy: {{auth_mode: {text}}}\n" + STUDIO).proxy.auth_mode, AuthMode.OFF)

    def test_done_marker_is_read(self) -> None:
        """Each of its words is taken."""
        for marker in DoneMarker:
            config = self.load(f"proxy: {{done_marker: {marker.value}}}\n" + STUDIO)
            self.assertIs(config.proxy.done_marker, marker)

    def test_key_comes_from_exactly_one_place(self) -> None:
        """In clear, from the environment, or from a file beside the configuration."""
        self.write("key", "from-file\r\n")
        for members, key in (
            ("api_key: in-clear", "in-clear"),
            ("api_key_env: KEY", "from-env"),
            ("api_key_file: key", "from-file"),
            (f"api_key_file: {self.directory}/key", "from-file"),
            ("api_key_file: ~/key", "from-file"),
            ("api_key: '', api_key_file: key", "from-file"),
        ):
            config = self.load(credential(members), {"HOME": str(self.directory), "KEY": " from-env\n"})
            self.assertEqual(config.upstreams[0].credentials[0].api_key, Secret(key))

    def test_account_upstream_is_read_whole(self) -> None:
        """Every key of kind codeassist arrives where it belongs."""
        self.write("secret", "hidden\n")
        upstream = self.load(
            accounts(
                "base_urls: ['https://a.example/v1internal/', 'http://127.0.0.1:81', 'http://[::1]:82/', "
                "'http://localhost'], models: ['gemini-*'], project: mine, credentials_dir: pool, "
                "oauth: {client_id: id, client_secret_file: secret, token_url: 'https://t.example/token', "
                "auth_url: 'https://a.example/auth/'}, "
                "envelope: {profile: gemini-cli, user_agent: 'mine/1 (x)', request_type: web_search}"
            )
        ).upstreams[0]
        self.assertEqual(
            upstream.base_urls,
            ("https://a.example/v1internal", "http://127.0.0.1:81", "http://[::1]:82", "http://localhost"),
        )
        assert upstream.oauth is not None
        self.assertEqual(
            attrs.astuple(upstream.oauth),
            (
                "id",
                Secret("hidden"),
                "https://t.example/token",
                "https://a.example/auth",
                "https://www.googleapis.com/oauth2/v2/userinfo",
            ),
        )
        self.assertEqual(upstream.envelope, EnvelopeConfig("gemini-cli", "mine/1 (x)", "web_search"))
        self.assertEqual((upstream.models, upstream.project), (("gemini-*",), "mine"))
        self.assertEqual(upstream.credentials_dir, "/home/someone/.local/state/antigravity-gateway/pool")

    def test_account_upstream_has_defaults(self) -> None:
        """An OAuth client is all that has to be said."""
        upstream = self.load("state_dir: /var/lib/agw\n" + accounts(OAUTH)).upstreams[0]
        self.assertEqual(upstream.base_urls, ("https://cloudcode-pa.googleapis.com/v1internal",))
        self.assertEqual(upstream.credentials_dir, "/var/lib/agw/accounts")
        self.assertEqual(upstream.envelope, EnvelopeConfig("antigravity", "", "agent"))
        assert upstream.oauth is not None
        self.assertEqual(upstream.oauth.token_url, "https://oauth2.googleapis.com/token")
        self.assertEqual(upstream.oauth.auth_url, "https://accounts.google.com/o/oauth2/v2/auth")
        self.assertEqual(upstream.oauth.userinfo_url, "https://www.googleapis.com/oauth2/v2/userinfo")

    def test_aliases_keep_their_order(self) -> None:
        """The order of the file is the order of the tuple."""
        aliases = self.load(
            "routing: {aliases: {'gpt-4*': gemini-2.5-pro, b: org/model@1, a: c}}\n" + STUDIO
        ).routing.aliases
        self.assertEqual(aliases, (("gpt-4*", "gemini-2.5-pro"), ("b", "org/model@1"), ("a", "c")))

    def test_models_are_read(self) -> None:
        """What is not said is zero or empty."""
        models = self.load(
            "models: {m: {input_token_limit: 10, output_token_limit: 5, methods: [countTokens]}, org/n: }\n" + STUDIO
        ).models
        self.assertEqual(models, (ModelConfig("m", 10, 5, ("countTokens",)), ModelConfig("org/n")))

    def test_usage_is_read(self) -> None:
        """Days are a unit; what a cached token costs is what it would cost if it were not, unless that is said."""
        usage = self.load(
            "usage:\n  enabled: false\n  keep: 30d\n  keep_rollups: 365d\n  size: 5MiB\n  prices:\n"
            "    gemini-2.5-pro: {input: 1, output: 2.5, cached: 0, over_200k: {input: 2, output: 5, cached: 0.5}}\n"
            "    'claude-*': {input: 3, output: 15}\n" + STUDIO
        ).usage
        prices = (
            ("gemini-2.5-pro", Price(Rates(1, 2.5, 0), Rates(2, 5, 0.5))),
            ("claude-*", Price(Rates(3, 15, 3))),
        )
        self.assertEqual(usage, UsageConfig(False, 30 * 86400, 365 * 86400, 5 * 1024**2, prices))

    def test_state_directory_is_found_in_order(self) -> None:
        """The file, systemd, XDG, home; relative values of the environment are ignored."""
        everything = {"STATE_DIRECTORY": "/s/one:/s/two", "XDG_STATE_HOME": "/x", "HOME": "/h"}
        for text, environ, place in (
            ("state_dir: /f\n", everything, "/f"),
            ("state_dir: state\n", everything, str(self.directory / "state")),
            ("state_dir: ~/state\n", everything, "/h/state"),
            ("state_dir: ''\n", everything, "/s/one"),
            ("", {"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/antigravity-gateway"),
            ("", {"XDG_STATE_HOME": "x", "HOME": "/h"}, "/h/.local/state/antigravity-gateway"),
        ):
            self.assertEqual(self.load(text + STUDIO, environ).state_dir, place)
        self.assertIn("write state_dir", self.refused(STUDIO, {}))

    def test_file_can_be_read_without_its_upstreams(self) -> None:
        """For the simulator, keys that are not at hand do not matter."""
        config = self.load("log: {level: debug}\n" + credential("api_key_env: MISSING"), with_upstreams=False)
        self.assertEqual((config.upstreams, config.log.level), ((), "debug"))

    def test_importing_the_configuration_imports_no_twisted(self) -> None:
        """Nothing of Twisted is loaded until a listener is read."""
        code = "import sys, gateway.config; sys.exit(any(m.startswith('twisted') for m in sys.modules))"
        self.assertEqual(subprocess.run([sys.executable, "-c", code], cwd=HERE, check=False).returncode, 0)


LISTENERS: tuple[tuple[str, bool], ...] = (
    ("tcp:8045:interface=127.0.0.1", True),
    ("tcp:port=8045:interface=127.8.9.1", True),
    ("tcp:8045:interface=localhost", True),
    ("tcp6:8045:interface=\\:\\:1", True),
    ("ssl:8045:interface=127.0.0.1:privateKey=a.pem", True),
    ("unix:/run/agw.sock:mode=660", True),
    ("tcp:8045", False),
    ("tcp:8045:interface=", False),
    ("tcp:8045:interface=0.0.0.0", False),
    ("tcp:8045:interface=192.168.1.5", False),
    ("tcp:8045:interface=localhost.example", False),
    ("tcp6:8045", False),
    ("tcp6:8045:interface=\\:\\:", False),
    ("systemd:domain=INET:index=0", False),
    ("systemd:domain=UNIX:name=agw", False),
    ("what is this", False),
)


class Authentication(Files):
    """Who is let in."""

    def test_listener_is_loopback_by_its_interface(self) -> None:
        """What cannot be read counts as open."""
        for description, loopback in LISTENERS:
            self.assertEqual(ProxyConfig((description,)).authenticates, not loopback, description)

    def test_auto_is_on_with_a_key_or_an_open_listener(self) -> None:
        """On loopback without a key it is off."""
        closed, open_ = "tcp:1:interface=127.0.0.1", "tcp:1"
        for listen, keys, on in (
            ((closed,), (), False),
            ((closed,), (DIGEST,), True),
            ((closed, open_), (), True),
            ((closed, open_), (DIGEST,), True),
        ):
            self.assertIs(ProxyConfig(listen, AuthMode.AUTO, keys).authenticates, on)

    def test_modes_decide_about_requests_and_health(self) -> None:
        """Only strict asks for a key at /healthz."""
        for mode, authenticates, open_health in (
            (AuthMode.OFF, False, True),
            (AuthMode.STRICT, True, False),
            (AuthMode.ALL_EXCEPT_HEALTH, True, True),
            (AuthMode.AUTO, True, True),
        ):
            proxy = ProxyConfig(auth_mode=mode, api_keys=(DIGEST,))
            self.assertEqual((proxy.authenticates, proxy.open_health), (authenticates, open_health))

    def test_authentication_without_a_key_is_warned_of(self) -> None:
        """It starts, refuses everybody, and says so."""
        (warning,) = self.load("proxy: {auth_mode: strict}\n" + STUDIO).warnings
        self.assertIn("every request is refused with 401", warning)

    def test_key_in_clear_over_the_network_is_warned_of(self) -> None:
        """Plain TCP beyond loopback is; TLS is not."""
        digest = f"api_key: 'sha256:{DIGEST.hex()}'"
        for listen, count in (("tcp:1", 1), ("tcp6:1", 1), ("ssl:1", 0), ("unix:a", 0)):
            config = self.load(f"proxy: {{listen: '{listen}', {digest}}}\n" + STUDIO)
            self.assertEqual(len(config.warnings), count, listen)

    def test_readable_file_with_secrets_is_warned_of(self) -> None:
        """The warning names the places and the cure, not the secrets."""
        path = self.write("open.yaml", "proxy: {api_key: hidden}\n" + credential("api_key: hidden"), 0o644)
        (warning,) = load(path, HOME).warnings
        self.assertIn("proxy.api_key and upstreams.studio.credentials[0].api_key", warning)
        self.assertIn(f"chmod 600 {path}", warning)
        self.assertNotIn("hidden", warning)


class WithoutAFile(SynchronousTestCase):
    """The environment and the simulator."""

    def test_keys_of_the_environment_make_an_upstream(self) -> None:
        """Each key once, in order, named by number."""
        config = from_environment({**HOME, "GEMINI_API_KEY": " a, b,,a ,c\n"})
        (upstream,) = config.upstreams
        self.assertEqual((upstream.name, upstream.kind, config.source), ("studio", "aistudio", "environment"))
        self.assertEqual(
            [(one.name, one.api_key.reveal()) for one in upstream.credentials],
            [("key-1", "a"), ("key-2", "b"), ("key-3", "c")],
        )

    def test_nothing_at_all_names_the_three_ways(self) -> None:
        """One sentence: a file, the variable, the simulator."""
        for environ in ({}, {"GEMINI_API_KEY": " , "}):
            sentence = str(self.assertRaises(ConfigError, from_environment, environ))
            for way in ("GEMINI_API_KEY", "--config FILE", "--simulate"):
                self.assertIn(way, sentence)

    def test_key_that_cannot_be_one_is_refused_unseen(self) -> None:
        """The sentence tells which by number."""
        error = self.assertRaises(ConfigError, from_environment, {**HOME, "GEMINI_API_KEY": "a,hid den"})
        self.assertIn("key 2", str(error))
        self.assertNotIn("hid", str(error))

    def test_simulator_stands_behind_both_kinds(self) -> None:
        """Two keys, two ready-made accounts, every URL at the origin."""
        config = simulated("http://127.0.0.1:41233", None)
        studio_, pool = config.upstreams
        self.assertEqual(studio_.base_urls, ("http://127.0.0.1:41233",))
        self.assertEqual([one.name for one in studio_.credentials], ["sim-key-1", "sim-key-2"])
        self.assertEqual(pool.base_urls, ("http://127.0.0.1:41233/v1internal",))
        assert pool.oauth is not None
        origin = "http://127.0.0.1:41233"
        self.assertEqual(
            attrs.astuple(pool.oauth),
            (
                "simulator",
                Secret("simulator"),
                f"{origin}/token",
                f"{origin}/o/oauth2/v2/auth",
                f"{origin}/oauth2/v2/userinfo",
            ),
        )
        self.assertEqual(len({one.refresh_token for one in pool.accounts}), 2)
        self.assertEqual(config.source, "--simulate")

    def test_simulator_keeps_the_file_s_other_settings(self) -> None:
        """Upstreams are replaced, and state goes where no real account is."""
        base = Config(proxy=ProxyConfig(api_keys=(DIGEST,)), log=LogConfig("debug"), state_dir="/s")
        config = simulated("http://127.0.0.1:1", base, "/scratch")
        self.assertEqual((config.proxy, config.log), (base.proxy, base.log))
        self.assertEqual([upstream.name for upstream in config.upstreams], ["studio", "accounts"])
        self.assertEqual(config.state_dir, "/scratch")
        self.assertEqual(config.upstreams[1].credentials_dir, "")


class Describing(Files):
    """What --check prints."""

    def test_keys_may_be_made_where_there_is_none(self) -> None:
        """From the first one on they are asked for."""
        self.assertIn("authentication: off until there is a key (auto)", describe(self.load(STUDIO)))

    def test_description_tells_what_would_run(self) -> None:
        """Listeners, authentication, upstreams, names, aliases, timeouts, warnings."""
        self.write("key", "hidden")
        shown = describe(
            self.load(
                "proxy: {auth_mode: strict, trusted_proxies: [10.0.0.5, unix]}\n"
                "routing: {aliases: {'gpt-*': gemini-2.5-pro}}\n"
                "usage: {size: 5MiB, prices: {'m-*': {input: 1, output: 1}}}\n"
                "timeouts: {idle: 90s}\n" + credential("api_key_file: key")
            )
        )
        for words in (
            "gateway.yaml",
            "listens on tcp:8045:interface=127.0.0.1 (this machine only)",
            "authentication: on, no keys",
            "proxies whose X-Forwarded-For is believed: 10.0.0.5/32, unix",
            "connections opened at start to each https base: 1",
            "upstream studio (aistudio)",
            "base: https://generativelanguage.googleapis.com",
            "credentials: first",
            "alias: gpt-* -> gemini-2.5-pro",
            "idle 90 s",
            "body 100 MiB",
            "usage: requests for 90 days, sums for 800 days, up to 5 MiB, prices of its own for m-*",
            "warning: authentication is on",
        ):
            self.assertIn(words, shown)
        self.assertGreater(len(shown.splitlines()), 10)
        self.assertIn("usage: not written down", describe(self.load("usage: {enabled: false}\n" + STUDIO)))

    def test_description_and_repr_show_no_secret(self) -> None:
        """Keys, client secrets, refresh tokens and digests stay inside."""
        config = self.load(
            "proxy: {api_key: hidden-key}\n"
            "upstreams: {studio: {kind: aistudio, credentials: [{name: first, api_key: hidden-one}]}, "
            "pool: {kind: codeassist, oauth: {client_id: id, client_secret: hidden-two}}}\n"
        )
        for shown in (describe(config), repr(config.upstreams)):
            self.assertNotIn("hidden", shown)
        self.assertNotIn(hashlib.sha256(b"hidden-key").hexdigest(), describe(config))
        self.assertNotIn("sim-refresh", describe(simulated("http://127.0.0.1:1", config)))
