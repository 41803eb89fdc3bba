"""The document of the admin API: complete, and true of what the routes answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from gateway.operations import admin, openapi
from gateway.operations.adminroutes import Route
from gateway.routing.oversight import Oversight
from tests.test_admin import MODEL, FaceCase
from tests.test_adminweb import every_part


class DocumentTests(FaceCase):
    def setUp(self) -> None:
        super().setUp()
        self.document = self.get("/v1/openapi.json")

    def operations(self) -> dict[tuple[str, str], Any]:
        return {
            (method.upper(), path): operation
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
        }

    def test_document_names_every_route_that_is_served(self) -> None:
        """And none that is not: method and path, as Klein's own map has them."""
        parts = every_part()
        face = admin.Face(parts, "1")
        self.document = openapi.document(face.routes, "1")
        served = {
            (method, openapi.template(rule.rule))
            for rule in face.app.url_map.iter_rules()
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        }
        self.assertIn(("POST", "/v1/accounts/{upstream}/{name}/disable"), served)
        self.assertIn(("GET", "/v1/usage"), served)
        self.assertEqual(set(self.operations()), served)

    def test_documents_name_every_route(self) -> None:
        """docs/dashboard.rst has them in a table, and none that is gone."""
        page = (Path(admin.__file__).parents[2] / "docs" / "dashboard.rst").read_text("utf-8")
        table = page[page.index("route  ") :]
        named = set(re.findall(r"``(GET|POST|PATCH|DELETE) (/v1/[^`]+)``", table))
        served = {(route.method, openapi.template(route.path)) for route in admin.Face(every_part(), "1").routes}
        self.assertEqual(named, served)

    def test_every_part_that_there_is_is_described(self) -> None:
        """A module of routes that is added is added here, and to the console."""
        texts = {path.stem: path.read_text("utf-8") for path in Path(admin.__file__).parent.glob("*.py")}
        modules = {stem for stem, text in texts.items() if "Route(" in text}
        known = {type(part).__module__.rpartition(".")[2] for part in every_part()}
        self.assertEqual(modules - {"admin", "adminroutes"}, known)

    def test_operations_say_what_they_take_and_give(self) -> None:
        """A sentence, an id of its own, every value in the path, and answers that refer to what is there."""
        self.document = openapi.document(admin.Face(every_part(), "1").routes, "1")
        ids = set()
        for (_, path), operation in self.operations().items():
            ids.add(operation["operationId"])
            self.assertTrue(operation["summary"].endswith("."), path)
            named = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
            self.assertEqual(named, set(re.findall(r"{(\w+)}", path)), path)
            self.assertEqual(set(operation["responses"]), {"200", "4XX", "5XX"})
        self.assertEqual(len(ids), len(self.operations()))
        schemas = self.document["components"]["schemas"]
        references = set(re.findall(r"#/components/schemas/(\w+)", msgspec.json.encode(self.document).decode()))
        self.assertEqual(references, set(schemas))

    def test_answers_are_as_described(self) -> None:
        """Each GET, held against the type that its route names."""
        oversight = Oversight(self.router, {"studio": "aistudio"})
        loaded = {"configuration": {"loaded": "t", "good": 1, "failed": 0, "last_failure": ""}}
        routes: list[Route] = admin.Face([admin.PoolRoutes(oversight, "1", lambda: loaded)], "1").routes
        asked = {
            "get_accounts_upstream_name": "/v1/accounts/studio/first",
            "get_explain": f"/v1/explain?model={MODEL}",
        }
        for route in routes:
            if route.method == "GET":
                found = self.get(asked.get(route.name, route.path))
                msgspec.convert(found, route.gives)
