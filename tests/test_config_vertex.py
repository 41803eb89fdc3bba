"""The configuration of ``vertex`` upstreams: locations, service accounts' files, application defaults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.calls import Secret
from gateway.config import CloudCredentialConfig, ConfigError, ServiceAccountConfig, UpstreamConfig, describe
from tests.keyfiles import key_file, pem, rsa_key
from tests.test_config import HOME, Files, credential

ADC = "application_default: true, project: mine"


def cloud(members: str) -> str:
    return f"upstreams: {{cloud: {{kind: vertex, {members}}}}}\n"


def one(members: str = "service_account_file: sa.json") -> str:
    return cloud(f"credentials: [{{name: sa, {members}}}]")


class VertexFiles(Files):
    """A configuration beside a service account's key file."""

    def setUp(self) -> None:
        super().setUp()
        self.key_path = self.write("sa.json", key_file())

    def upstream(self, text: str, **options: Any) -> UpstreamConfig:
        return self.load(text, **options).upstreams[0]


class ReadingTests(VertexFiles):
    """What a file becomes."""

    def test_service_account_is_read(self) -> None:
        """Its file stands beside the configuration, and names the project."""
        upstream = self.upstream(one())
        account = ServiceAccountConfig(
            "robot@its-project.iam.gserviceaccount.com",
            Secret(pem(rsa_key())),
            "key-id-1",
            "https://oauth2.googleapis.com/token",
            "its-project",
        )
        self.assertEqual(upstream.cloud, (CloudCredentialConfig("sa", "its-project", account),))
        self.assertEqual((upstream.kind, upstream.credentials, upstream.oauth), ("vertex", (), None))

    def test_location_decides_where_vertex_is(self) -> None:
        """``global`` has a host of its own; base_urls goes before."""
        table = (
            ("", "global", "https://aiplatform.googleapis.com"),
            ("location: global,", "global", "https://aiplatform.googleapis.com"),
            ("location: europe-west4,", "europe-west4", "https://europe-west4-aiplatform.googleapis.com"),
            ("location: us-east5, base_urls: ['https://v.example/'],", "us-east5", "https://v.example"),
        )
        for members, location, base in table:
            upstream = self.upstream(cloud(f"{members} credentials: [{{name: sa, service_account_file: sa.json}}]"))
            self.assertEqual((upstream.location, upstream.base_urls), (location, (base,)))

    def test_project_of_the_operator_goes_before(self) -> None:
        """A service account may be let into another project than its own."""
        upstream = self.upstream(one("service_account_file: sa.json, project: 'example.com:other'"))
        self.assertEqual(upstream.cloud[0].project, "example.com:other")

    def test_application_defaults_are_read(self) -> None:
        """They have no secret here."""
        upstream = self.upstream(one(ADC), installed=lambda module: True)
        self.assertEqual(upstream.cloud, (CloudCredentialConfig("sa", "mine"),))

    def test_several_credentials_stand_side_by_side(self) -> None:
        """In the order of the file; false and empty mean that there is none."""
        text = cloud(
            "credentials: [{name: a, service_account_file: sa.json, application_default: false}, "
            f"{{name: b, service_account_file: '', {ADC}}}]"
        )
        found = self.upstream(text, installed=lambda module: True).cloud
        self.assertEqual([(entry.name, entry.service_account is None) for entry in found], [("a", False), ("b", True)])

    def test_token_endpoint_may_be_on_this_machine(self) -> None:
        """As any URL of the configuration."""
        self.write("sa.json", key_file(token_uri="http://127.0.0.1:81/token"))
        account = self.upstream(one()).cloud[0].service_account
        assert account is not None
        self.assertEqual(account.token_url, "http://127.0.0.1:81/token")

    def test_key_file_without_the_optional_members_is_read(self) -> None:
        """Then the project is written in the configuration."""
        self.write("sa.json", key_file(project_id=None, private_key_id=None))
        upstream = self.upstream(one("service_account_file: sa.json, project: mine"))
        assert upstream.cloud[0].service_account is not None
        self.assertEqual((upstream.cloud[0].project, upstream.cloud[0].service_account.private_key_id), ("mine", ""))

    def test_description_shows_no_secret_and_no_address(self) -> None:
        """What --check prints."""
        config = self.load(one())
        text = describe(config)
        self.assertIn("location: global", text)
        self.assertIn("credentials: sa (service account, project its-project)", text)
        for shown in (text, repr(config)):
            self.assertNotIn("PRIVATE", shown)
        self.assertNotIn("robot@", text)


class SystemdTests(VertexFiles):
    """Credentials that systemd passes: systemd.exec(5), LoadCredential=."""

    def setUp(self) -> None:
        super().setUp()
        self.given = self.directory / "credentials"
        self.given.mkdir()
        self.write("credentials/sa", key_file(), 0o440)
        self.environ = {**HOME, "CREDENTIALS_DIRECTORY": str(self.given)}

    def test_mode_of_systemds_files_is_systemds_matter(self) -> None:
        """It gives them 0440 with an access control list, and root may own them."""
        config = self.load(one("service_account_file: credentials/sa"), self.environ)
        self.assertEqual(config.upstreams[0].cloud[0].project, "its-project")
        self.write("credentials/key", "k\n", 0o440)
        config = self.load(credential("api_key_file: credentials/key"), self.environ)
        self.assertEqual(config.upstreams[0].credentials[0].api_key, Secret("k"))

    def test_other_files_are_judged_as_ever(self) -> None:
        """Beside that directory, behind a link that leads out of it, and without the variable."""
        path = Path(self.write("sa.json", key_file(), 0o640))
        (self.given / "link").symlink_to(path)
        beside = Path(str(self.given) + "-not")
        beside.mkdir()
        os.link(path, beside / "sa")
        for name in ("sa.json", "credentials/link", "credentials/../sa.json", "credentials-not/sa"):
            self.assertIn("others may read", self.refused(one(f"service_account_file: {name}"), self.environ), name)
        for value in ("", "credentials", "."):
            environ = {**HOME, "CREDENTIALS_DIRECTORY": value}
            self.assertIn("others may read", self.refused(one("service_account_file: credentials/sa"), environ))


ERRORS: tuple[tuple[str, str, str], ...] = (
    (cloud("location: global"), "upstreams.cloud", "service_account_file: sa.json"),
    (cloud("credentials: []"), "upstreams.cloud.credentials", "it has no credentials"),
    (cloud("location: Europe"), "upstreams.cloud.location", "a region such as"),
    (cloud("location: 'a.b/c'"), "upstreams.cloud.location", "a region such as"),
    (cloud("location: ''"), "upstreams.cloud.location", "a region such as"),
    (cloud("project: p"), "upstreams.cloud.project", "only kind codeassist has this"),
    (cloud("oauth: {}"), "upstreams.cloud.oauth", "only kind codeassist has this"),
    (one("api_key: k"), "credentials[0].api_key", "only kind aistudio has this"),
    (one("project: p"), "credentials[0]", "none is given of service_account_file, application_default"),
    (one("application_default: false"), "credentials[0]", "none is given"),
    (one(f"service_account_file: sa.json, {ADC}"), "credentials[0]", "2 are given"),
    (one("application_default: 'yes', project: p"), "credentials[0].application_default", "true"),
    (one("service_account_file: sa.json, project: a/b"), "credentials[0].project", "a Google project id"),
    (one("service_account_file: sa.json, project: '..'"), "credentials[0].project", "a Google project id"),
    (one("service_account_file: none.json"), "credentials[0].service_account_file", "cannot be read"),
    (
        "upstreams: {s: {kind: aistudio, location: global}}",
        "upstreams.s.location",
        "only kind vertex has this; remove it",
    ),
    (credential("application_default: true"), "credentials[0].application_default", "only kind vertex has this"),
)

BAD_KEY_FILES: tuple[tuple[dict[str, object], str], ...] = (
    ({"type": None}, "has no `type`"),
    ({"type": "authorized_user"}, "write application_default: true instead"),
    ({"client_email": None}, "has no `client_email`"),
    ({"private_key": None}, "has no `private_key`"),
    ({"private_key": " "}, "has no `private_key`"),
    ({"private_key": "hidden-text"}, "is no RSA key in PEM"),
    ({"private_key": pem(ec.generate_private_key(ec.SECP256R1()))}, "is no RSA key in PEM"),
    ({"private_key": 7}, "is no JSON object of texts"),
    ({"token_uri": None}, "has no `token_uri`"),
    ({"token_uri": "http://token.example/token"}, "plain http would send keys in clear"),
    ({"token_uri": "file:///etc/passwd"}, "this is no URL"),
    ({"token_uri": "https://u:p@token.example/"}, "no user or password"),
    ({"project_id": "a/../b"}, "`project_id`"),
    ({"project_id": ""}, "neither it nor its key file names a project"),
)


class ErrorTests(VertexFiles):
    """A mistake is told in one sentence: where, what, and the cure."""

    def test_every_mistake_names_its_path_and_cure(self) -> None:
        """The path stands at the beginning, the cure after the semicolon."""
        for text, path, words in ERRORS:
            sentence = self.refused(text)
            self.assertTrue(sentence.partition(": ")[0].endswith(path), f"{path} is not in {sentence}")
            self.assertIn(words, sentence, text)
            self.assertIn("; ", sentence, text)

    def test_key_file_that_is_none_is_named_and_not_quoted(self) -> None:
        """The sentence has its path, what is wrong in it, and nothing that it holds."""
        for members, words in BAD_KEY_FILES:
            self.write("sa.json", key_file(**members))
            sentence = self.refused(one())
            self.assertIn(words, sentence)
            self.assertIn("upstreams.cloud.credentials[0]", sentence)
            for hidden in ("hidden-text", "PRIVATE", "robot@", "u:p"):
                self.assertNotIn(hidden, sentence)
        for data in (b"", b"[]", b"hidden-text", b'{"type": "service_account", "client_email": "\xff"}', b"{" * 5000):
            self.write("sa.json", data)
            sentence = self.refused(one())
            self.assertIn("is no JSON object", sentence)
            self.assertNotIn("hidden-text", sentence)

    def test_key_file_that_others_may_read_is_refused(self) -> None:
        """P10: the cure is the command."""
        for mode in (0o640, 0o604, 0o660):
            os.chmod(self.key_path, mode)
            self.assertTrue(self.refused(one()).endswith(f"run: chmod 600 {self.key_path}"))

    def test_missing_google_auth_is_a_sentence_at_start(self) -> None:
        """With the command that installs it; service accounts do without."""
        for there in (set[str](), {"requests"}, {"google.auth"}):
            error = self.assertRaises(ConfigError, self.load, one(ADC), installed=there.__contains__)
            self.assertIn("pip install 'antigravity-gateway[adc]'", str(error))
            self.assertIn("upstreams.cloud.credentials[0].application_default: ", str(error))
        self.load(one(), installed=lambda module: False)

    def test_application_defaults_need_a_project(self) -> None:
        """Which one they belong to is known only when they are asked, and that may take long."""
        text = one("application_default: true")
        error = self.assertRaises(ConfigError, self.load, text, installed=lambda module: True)
        self.assertIn("credentials[0]: it has no project; write project:", str(error))

    def test_upstreams_of_other_kinds_are_as_they_were(self) -> None:
        """They have neither location nor cloud credentials."""
        upstream = self.upstream(credential("api_key: k"))
        self.assertEqual(attrs.evolve(upstream, location="", cloud=()), upstream)
