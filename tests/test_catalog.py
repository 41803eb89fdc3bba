"""Models, aliases and the list of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import GatewayError
from gateway.routing.catalog import PAGE_LIMIT, Aliases, Catalog, Served, glob, resource
from gateway.routing.models import TABLE
from gateway.upstreams.models import Model


def listing(*models: Model) -> dict[str, Model]:
    return {model.id: model for model in models}


def ids(catalog: Catalog, size: int) -> list[list[str]]:
    """Return the ids of every page, read as a client does."""
    pages: list[list[str]] = []
    token = ""
    while True:
        models, token = catalog.page(size, token)
        pages.append([model.id for model in models])
        if not token:
            return pages


class AliasTests(SynchronousTestCase):
    """Names that stand for models."""

    def test_order_is_exact_then_literal_length_then_configuration(self) -> None:
        """No other match is ever taken, and a name that nothing matches stays itself."""
        aliases = Aliases.build(
            [
                ("*", "anything"),
                ("gpt-*", "short"),
                ("gpt-4*", "long"),
                ("*t-4*", "as-long-but-later"),
                ("*-mini", "mini"),
                ("gpt-4o", "exact"),
                ("gpt-4o", "exact-but-later"),
                ("a*b*c", "three"),
            ]
        )
        table = [
            ("gpt-4o", "exact"),
            ("gpt-4o-2024", "long"),
            ("gpt-4", "long"),
            ("gpt-3", "short"),
            ("xt-4", "as-long-but-later"),
            ("gpt-4-mini", "long"),
            ("x-mini", "mini"),
            ("abc", "three"),
            ("axxb/yyc", "three"),
            ("gemini", "anything"),
            ("GPT-4o", "anything"),
        ]
        for name, target in table:
            self.assertEqual(aliases.resolve(name), target, name)

    def test_unknown_name_stays_itself(self) -> None:
        """No silent fallback: upstream decides about a name that nothing matches."""
        aliases = Aliases.build([("gpt-4*", "gemini-2.5-flash")])
        for name in ("gemini-9", "agpt-4", "gpt-", ""):
            self.assertEqual(aliases.resolve(name), name)

    def test_target_is_not_resolved_again(self) -> None:
        """An alias of an alias would hide which model answers."""
        aliases = Aliases.build([("a", "b"), ("b", "c")])
        self.assertEqual(aliases.resolve("a"), "b")

    def test_only_the_star_is_special(self) -> None:
        """Dots, brackets and the like stand for themselves; a star takes slashes and line ends too."""
        table = [
            ("gemini-2.5*", "gemini-2x5", False),
            ("gemini-2.5*", "gemini-2.5-pro", True),
            ("a[b]?", "a[b]?", True),
            ("a[b]?", "ab", False),
            ("a*", "a/b\nc", True),
            ("*", "", True),
            ("a", "a\n", False),
            ("a", "ab", False),
            ("a", "ba", False),
            ("**a", "a", True),
        ]
        for pattern, text, matches in table:
            self.assertIs(bool(glob(pattern).match(text)), matches, f"{pattern!r} on {text!r}")


class MergingTests(SynchronousTestCase):
    """Three sources, one list."""

    def test_sources_are_laid_over_each_other_member_by_member(self) -> None:
        """The configuration over what upstreams list over the package's table; what one lacks another gives."""
        catalog = Catalog(
            table=listing(Model("both", version="table", input_tokens=10)),
            configured=listing(Model("both", input_tokens=20), Model("mine")),
            listed={"up": listing(Model("both", display_name="Both", version="up", output_tokens=5), Model("theirs"))},
        )
        self.assertEqual(
            catalog.get("both"),
            Model("both", display_name="Both", version="up", input_tokens=20, output_tokens=5),
        )
        self.assertEqual(ids(catalog, 0), [["both", "mine", "theirs"]])

    def test_fresh_list_takes_the_place_of_the_same_upstreams_old_one(self) -> None:
        """The old catalogue stays as it was for those who still hold it."""
        first = Catalog({}, {}).with_listing("a", [Model("x"), Model("y")]).with_listing("b", [Model("y")])
        second = first.with_listing("a", [Model("z")])
        self.assertEqual(ids(first, 0), [["x", "y"]])
        self.assertEqual(ids(second, 0), [["y", "z"]])

    def test_upstream_is_known_to_have_what_it_lists(self) -> None:
        """Not known is not a no: it only comes second."""
        catalog = Catalog(TABLE, {}).with_listing("a", [Model("x")])
        for upstream, model, known in (("a", "x", True), ("b", "x", False), ("a", "gemini-2.5-flash", False)):
            self.assertIs(catalog.knows(upstream, model), known, f"{upstream} {model}")

    def test_name_that_a_wildcard_stands_for_can_be_got(self) -> None:
        """llama-index gets its model before it uses it: such a name is there, although the list leaves it out."""
        catalog = Catalog(listing(Model("real", input_tokens=7)), {}, aliases=Aliases.build([("gpt-*", "real")]))
        self.assertEqual(catalog.get("gpt-4o"), Model("gpt-4o", description="Alias of real.", input_tokens=7))
        self.assertEqual([model.id for model in catalog.page(None, "")[0]], ["real"])

    def test_list_shows_only_what_some_upstream_serves(self) -> None:
        """Neither a model beyond every upstream's ``models`` nor a method that no kind here has."""
        table = listing(
            Model("a-chat", verbs=("generateContent", "batchGenerateContent")),
            Model("a-vector", verbs=("embedContent",)),
            Model("b-chat", verbs=("generateContent", "embedContent")),
            Model("c-chat"),
        )
        served = (
            Served.build(["a-*"], frozenset({"generateContent"})),
            Served.build(["b-*"], frozenset({"generateContent", "embedContent"})),
        )
        catalog = Catalog(table, {}, served=served)
        found = {model.id: model.verbs for model in catalog.page(None, "")[0]}
        self.assertEqual(found, {"a-chat": ("generateContent",), "b-chat": ("generateContent", "embedContent")})
        self.assertRaises(GatewayError, catalog.get, "c-chat")

    def test_exact_alias_is_listed_under_its_own_name(self) -> None:
        """With its model's limits, and what it stands for in its description."""
        catalog = Catalog(
            listing(Model("m", input_tokens=7)), {}, aliases=Aliases.build([("al", "m"), ("far", "away"), ("w*", "m")])
        )
        self.assertEqual(catalog.get("al"), Model("al", description="Alias of m.", input_tokens=7))
        self.assertEqual(catalog.get("far"), Model("far", description="Alias of away."))
        self.assertEqual(ids(catalog, 0), [["al", "far", "m"]])
        self.assertEqual(catalog.resolve("wide"), "m")

    def test_unknown_model_is_not_found(self) -> None:
        """404 in Google's words, with where to look."""
        error = self.assertRaises(GatewayError, Catalog(TABLE, {}).get, "no-such")
        self.assertEqual((error.code, error.status, error.reason), (404, "NOT_FOUND", "MODEL_NOT_LISTED"))


class PageTests(SynchronousTestCase):
    """The list in pages."""

    def setUp(self) -> None:
        self.names = [f"m{number:02}" for number in range(25)]
        self.catalog = Catalog(listing(*map(Model, reversed(self.names))), {})

    def test_pages_together_are_the_list_in_order(self) -> None:
        """Whatever their size, nothing comes twice or is left out, and the last page has no token."""
        for size in (1, 2, 7, 24, 25, 26, 1000, 10**9):
            pages = ids(self.catalog, size)
            self.assertEqual([name for page in pages for name in page], self.names, f"size {size}")
            self.assertTrue(all(len(page) <= min(size, PAGE_LIMIT) for page in pages), f"size {size}")
            self.assertTrue(all(pages), f"size {size}")

    def test_no_size_and_zero_are_the_usual_size(self) -> None:
        """As AIP-158 has it."""
        for size in (None, 0):
            models, token = self.catalog.page(size, "")
            self.assertEqual(([model.id for model in models], token), (self.names, ""), size)

    def test_size_has_a_limit(self) -> None:
        """A page never holds more than a thousand."""
        catalog = Catalog(listing(*(Model(f"m{number}") for number in range(PAGE_LIMIT + 1))), {})
        models, token = catalog.page(PAGE_LIMIT + 1, "")
        self.assertEqual(len(models), PAGE_LIMIT)
        self.assertTrue(token)

    def test_token_outlives_a_change_of_the_list(self) -> None:
        """A client that reads on after a refresh misses nothing that was there all the time."""
        _, token = self.catalog.page(5, "")
        without = Catalog(listing(*(Model(name) for name in self.names if name != "m04")), {})
        self.assertEqual([model.id for model in without.page(5, token)[0]], self.names[5:10])

    def test_token_is_url_safe_for_any_id(self) -> None:
        """It comes back in a query as it went out."""
        catalog = Catalog(listing(Model("org/a?b~é"), Model("z")), {})
        _, token = catalog.page(1, "")
        self.assertRegex(token, r"\A[A-Za-z0-9_-]+\Z")
        self.assertEqual([model.id for model in catalog.page(1, token)[0]], ["z"])

    def test_bad_size_and_token_are_the_clients_mistake(self) -> None:
        """400, and what was wrong with it."""
        tokens = ("!!!!", "é", "_w", "a", "bTA0=", "x y")
        table = [(-1, "", "PAGE_SIZE"), *((5, token, "PAGE_TOKEN") for token in tokens)]
        for size, token, reason in table:
            error = self.assertRaises(GatewayError, self.catalog.page, size, token)
            self.assertEqual((error.code, error.reason), (400, reason), repr(token))

    def test_list_of_nothing_is_one_empty_page(self) -> None:
        """No models, no token."""
        self.assertEqual(Catalog({}, {}).page(None, ""), ([], ""))


class ResourceTests(SynchronousTestCase):
    """A model in the API's shape."""

    def test_display_name_is_the_id(self) -> None:
        """Users are told to copy it; what is not known is left out, and models generate content."""
        self.assertEqual(
            resource(Model("org/m")),
            {
                "name": "models/org/m",
                "displayName": "org/m",
                "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"],
            },
        )
        self.assertEqual(
            resource(Model("m", "Display", "", "001", 10, 20, ("embedContent",))),
            {
                "name": "models/m",
                "displayName": "m",
                "version": "001",
                "description": "Display",
                "inputTokenLimit": 10,
                "outputTokenLimit": 20,
                "supportedGenerationMethods": ["embedContent"],
            },
        )

    def test_packages_table_is_keyed_by_id(self) -> None:
        """Every row is under its own name and says what it is for."""
        for name, model in TABLE.items():
            self.assertEqual(model.id, name)
            self.assertTrue(model.verbs, name)
