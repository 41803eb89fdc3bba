"""The client keys' routes of the admin API, in memory."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from twisted.internet.task import Clock

from gateway.operations import admin
from gateway.operations.adminkeys import KeyRoutes
from gateway.routing.oversight import Oversight
from tests.fakes import Answer, Client, FakeWire, member, router
from tests.test_keys import BookCase


class KeyRoutesTests(BookCase):
    def setUp(self) -> None:
        super().setUp()
        self.part = KeyRoutes(self.book)
        oversight = Oversight(router(FakeWire(), Clock(), member("first")), {})
        self.site = admin.build(oversight, "1.2", Clock(), parts=(self.part,))

    def ask(self, method: str, target: str, document: Any = None, media: str = "application/json") -> Answer:
        client = Client(self.site)
        body = b"" if document is None else json.dumps(document).encode()
        client.ask(method, target, body, *([("Content-Type", media)] if body else []), version="HTTP/1.0")
        answer = client.answer()
        self.assertEqual((answer.headers["content-type"], answer.headers["cache-control"]),
                         ("application/json", "no-store"))  # fmt: skip
        return answer

    def done(self, method: str, target: str, document: Any = None) -> Any:
        answer = self.ask(method, target, document)
        self.assertEqual(answer.status, 200, answer.body)
        return answer.json

    def test_a_key_is_made_seen_changed_rotated_and_revoked(self) -> None:
        """Its secret is told by what makes one, and by nothing else."""
        made = self.done("POST", "/v1/keys", {"name": "team", "tokens_per_day": 5, "expires": None})
        self.assertTrue(self.knows(made["secret"].encode()))
        self.assertEqual(self.done("GET", "/v1/keys/team"), {"key": made["key"]})
        self.assertEqual([key["name"] for key in self.done("GET", "/v1/keys")["keys"]], ["team", ""])
        key_id = made["key"]["id"]
        changed = self.done("PATCH", f"/v1/keys/{key_id}", {"tokens_per_day": None, "concurrent": 0})["key"]
        self.assertEqual((changed["tokens_per_day"], changed["concurrent"]), (None, 0))
        rotated = self.done("POST", "/v1/keys/team/rotate", {"grace_seconds": 60})
        self.assertTrue(self.knows(made["secret"].encode()))
        self.assertTrue(self.knows(rotated["secret"].encode()))
        for told in (self.done("GET", "/v1/keys"), self.done("POST", "/v1/keys/team/revoke")):
            self.assertNotIn("agw_", json.dumps(told))
        self.assertFalse(self.knows(rotated["secret"].encode()))
        self.assertFalse(self.done("POST", f"/v1/keys/{key_id}/revoke")["changed"])

    def test_what_cannot_be_is_refused_with_the_reason(self) -> None:
        """By the types, and by the book."""
        self.create()
        rows: list[tuple[str, str, Any, int, str]] = [
            ("POST", "/v1/keys", {}, 400, "BODY_INVALID"),
            ("POST", "/v1/keys", {"name": "a", "colour": "red"}, 400, "BODY_INVALID"),
            ("POST", "/v1/keys", {"name": "a", "concurrent": -1}, 400, "BODY_INVALID"),
            ("POST", "/v1/keys", {"name": "team"}, 409, "KEY_NAME_TAKEN"),
            ("POST", "/v1/keys", {"name": "a", "networks": ["x"]}, 400, "KEY_FIELD_INVALID"),
            ("PATCH", "/v1/keys/team", {"models": None}, 400, "BODY_INVALID"),
            ("POST", "/v1/keys/team/rotate", {"grace_seconds": -1}, 400, "BODY_INVALID"),
            ("GET", "/v1/keys/nobody", None, 404, "KEY_UNKNOWN"),
            ("POST", "/v1/keys/nobody/revoke", None, 404, "KEY_UNKNOWN"),
            ("DELETE", "/v1/keys/team", None, 405, "METHOD_NOT_ALLOWED"),
        ]
        for method, target, document, code, reason in rows:
            answer = self.ask(method, target, document)
            found = (answer.status, answer.json["error"]["reason"])
            self.assertEqual(found, (code, reason), (method, target, document))
        self.assertEqual(self.ask("POST", "/v1/keys", {"name": "a"}, "text/plain").status, 415)

    def test_answers_are_as_described(self) -> None:
        """Each, held against the type that its route names."""
        self.create(requests_per_minute=5, networks=["10.0.0.1"])
        given: dict[str, tuple[str, Any]] = {
            "get_keys": ("/v1/keys", None),
            "get_keys_name": ("/v1/keys/team", None),
            "post_keys": ("/v1/keys", {"name": "new"}),
            "patch_keys_name": ("/v1/keys/team", {"models": ["a"]}),
            "post_keys_name_rotate": ("/v1/keys/team/rotate", {}),
            "post_keys_name_revoke": ("/v1/keys/new/revoke", None),
        }
        document = self.done("GET", "/v1/openapi.json")
        for route in self.part.routes():
            target, body = given[route.name]
            found = self.done(route.method, target, body)
            msgspec.convert(found, route.gives)
            described = document["paths"][route.path.replace("<", "{").replace(">", "}")][route.method.lower()]
            self.assertEqual("requestBody" in described, body is not None)
            (reference,) = described["responses"]["200"]["content"]["application/json"]["schema"].values()
            schema = document["components"]["schemas"][reference.rpartition("/")[2]]
            self.assertEqual(set(schema["properties"]), set(found))
        row = self.done("GET", "/v1/keys/team")["key"]
        self.assertEqual(set(row), set(document["components"]["schemas"]["Key"]["properties"]))
