"""Standings and a session in, a choice out."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.standing import Standings
from gateway.accounts.tokens import StaticToken
from gateway.calls import Credential, GatewayError, Secret
from gateway.config.values import UpstreamConfig
from gateway.routing.pool import Member, candidates
from gateway.routing.rotation import Choice, Nobody, Sessions, choose
from gateway.upstreams import kinds


def credential(name: str, project: str = "", upstream: str = "up") -> Credential:
    return Credential(name, upstream, "aistudio", f"{upstream}/{name}", project)


A, B, C = map(credential, "ABC")
OTHER = credential("O", upstream="other")


class ChooseTests(SynchronousTestCase):
    """Who is tried next."""

    def setUp(self) -> None:
        self.standings = Standings()

    def chosen(
        self,
        who: list[Credential],
        preferred: set[str] | None = None,
        bound: Credential | None = None,
        tried: set[Credential] | None = None,
        now: float = 0.0,
    ) -> Choice | Nobody:
        return choose(who, preferred or set(), self.standings, bound, tried or set(), "m", now)

    def test_least_busy_then_least_recently_used(self) -> None:
        """Load spreads over all; of those equally busy the one that rested longest comes first."""
        leases = []
        for expected in (A, B, C):
            self.assertEqual(self.chosen([A, B, C]), Choice(expected, "least used"))
            leases.append(self.standings.lease(expected, "m", 0.0))
        for lease in reversed(leases):
            self.standings.release(lease)
        self.assertEqual(self.chosen([C, B, A]), Choice(A, "least used"))
        self.standings.lease(A, "m", 0.0)
        self.assertEqual(self.chosen([A, B, C]), Choice(B, "least used"))

    def test_rotation_goes_to_another_at_once(self) -> None:
        """The one that just failed is not chosen again, though it is free and bound."""
        self.assertEqual(self.chosen([A, B], tried={A}), Choice(B, "rotation"))
        self.assertEqual(self.chosen([A, B], tried={A}, bound=A), Choice(B, "rotation"))
        self.assertEqual(self.chosen([A, B], tried={A, B}), Nobody(None))

    def test_session_stays_while_its_credential_is_usable(self) -> None:
        """However busy it is, and whatever upstream is preferred."""
        for _ in range(5):
            self.standings.lease(B, "m", 0.0)
        self.assertEqual(self.chosen([A, B, C], bound=B), Choice(B, "session"))
        self.assertEqual(self.chosen([A, OTHER], preferred={"up"}, bound=OTHER), Choice(OTHER, "session"))

    def test_session_leaves_a_credential_that_is_not_usable(self) -> None:
        """Cooling, in quarantine, or not open to this request."""
        self.standings.cool(A, "m", 10.0, 0.0)
        self.standings.unusable(B, "R")
        for bound in (A, B, OTHER):
            self.assertEqual(self.chosen([A, B, C], bound=bound), Choice(C, "least used"), bound.label)
        self.assertEqual(self.chosen([A, B, C], bound=A, now=10.0), Choice(A, "session"))

    def test_upstream_that_has_the_model_comes_first(self) -> None:
        """Even where it is busier; the others still serve when it cannot."""
        self.standings.lease(OTHER, "m", 0.0)
        self.assertEqual(self.chosen([A, OTHER], preferred={"other"}), Choice(OTHER, "least used"))
        self.assertEqual(self.chosen([A, OTHER], preferred={"other"}, tried={OTHER}), Choice(A, "rotation"))
        self.assertEqual(self.chosen([A, OTHER], preferred={"unknown"}), Choice(A, "least used"))

    def test_cooling_is_per_model_and_ends(self) -> None:
        """U9: to the moment, and not before."""
        self.standings.cool(A, "m", 10.0, 0.0)
        self.standings.cool(B, "n", 10.0, 0.0)
        self.assertEqual(self.chosen([A, B]), Choice(B, "least used"))
        self.assertEqual(self.chosen([A], now=9.999), Nobody(10.0))
        self.assertEqual(self.chosen([A], now=10.0), Choice(A, "least used"))

    def test_nobody_says_who_is_free_first(self) -> None:
        """K4, K5: the earliest of those that cool; none where all are in quarantine or there is nobody."""
        self.assertEqual(self.chosen([]), Nobody(None))
        self.standings.unusable(A, "R")
        self.assertEqual(self.chosen([A]), Nobody(None))
        self.standings.cool(A, "m", 1.0, 0.0)
        self.standings.cool(B, "m", 20.0, 0.0)
        self.standings.cool(C, "m", 10.0, 0.0)
        self.assertEqual(self.chosen([A, B, C]), Nobody(10.0))

    @given(
        st.dictionaries(st.integers(0, 7), st.sampled_from(["", "p", "q"]), min_size=1),
        st.sets(st.integers(0, 7)),
        st.sets(st.integers(0, 7)),
        st.dictionaries(st.integers(0, 7), st.floats(0, 20)),
        st.lists(st.integers(0, 7)),
        st.integers(0, 7),
        st.floats(0, 20),
    )  # fmt: skip
    @settings(deadline=None, max_examples=300)
    def test_choice_is_always_one_that_may_be_used(
        self,
        rows: dict[int, str],
        tried: set[int],
        out: set[int],
        cooling: dict[int, float],
        leases: list[int],
        bound: int,
        now: float,
    ) -> None:
        """Never one tried, cooling or in quarantine; the session's own where it may; nobody only if none may."""
        all_of_them = {number: credential(str(number), project) for number, project in rows.items()}
        standings = Standings()
        for number, one in all_of_them.items():
            if number in out:
                standings.unusable(one, "R")
            if number in cooling:
                standings.cool(one, "m", cooling[number], 0.0)
            for _ in range(leases.count(number)):
                standings.lease(one, "other", 0.0)
        usable = [
            one
            for number, one in all_of_them.items()
            if number not in tried and number not in out and standings.availability(one, "m", now).usable
        ]
        own = all_of_them.get(bound)
        choice = choose(
            list(all_of_them.values()),
            {"up"},
            standings,
            own,
            {one for number, one in all_of_them.items() if number in tried},
            "m",
            now,
        )
        if isinstance(choice, Nobody):
            self.assertEqual(usable, [])
            self.assertTrue(choice.free_at is None or choice.free_at > now)
        else:
            self.assertIn(choice.credential, usable)
            number = int(choice.credential.name)
            self.assertFalse(number in tried or number in out)
            resting = [
                at
                for who, at in cooling.items()
                if who == number or (rows[number] and rows.get(who) == rows[number])
            ]
            self.assertLessEqual(max(resting, default=0.0), now)
            if own in usable:
                self.assertEqual(choice, Choice(own, "session"))
            else:
                self.assertEqual(standings.load(choice.credential), min(map(standings.load, usable)))


class SessionsTests(SynchronousTestCase):
    """Which credential a session is on."""

    def test_session_moves_with_its_last_binding(self) -> None:
        """After a rotation it stays on the new credential; for another model it may be elsewhere."""
        sessions = Sessions()
        sessions.bind("s", "m", A, 0.0)
        sessions.bind("s", "n", B, 0.0)
        sessions.bind("t", "m", C, 0.0)
        sessions.bind("s", "m", C, 1.0)
        self.assertEqual([sessions.get(*key, 2.0) for key in (("s", "m"), ("s", "n"), ("t", "m"))], [C, B, C])
        self.assertIsNone(sessions.get("u", "m", 2.0))

    def test_session_ends_an_hour_after_its_last_use(self) -> None:
        """And leaves nothing behind when it is asked for."""
        sessions = Sessions(seconds=10.0)
        sessions.bind("s", "m", A, 0.0)
        sessions.bind("s", "m", A, 5.0)
        self.assertEqual(sessions.get("s", "m", 14.9), A)
        self.assertIsNone(sessions.get("s", "m", 15.0))
        self.assertEqual(len(sessions), 0)

    def test_sessions_are_bounded(self) -> None:
        """The one that was not used for longest is forgotten first."""
        sessions = Sessions(limit=3)
        for name in "abc":
            sessions.bind(name, "m", A, 0.0)
        sessions.bind("a", "m", A, 1.0)
        sessions.bind("d", "m", A, 2.0)
        self.assertEqual([name for name in "abcd" if sessions.get(name, "m", 3.0)], ["a", "c", "d"])

    def test_no_session_is_not_bound(self) -> None:
        """Requests of no conversation do not share a credential."""
        sessions = Sessions()
        sessions.bind("", "m", A, 0.0)
        self.assertEqual((len(sessions), sessions.get("", "m", 0.0)), (0, None))


def member(kind: str, name: str, *models: str) -> Member:
    upstream = kinds.build(UpstreamConfig(name, kind, ("https://base.test",)))
    who = Credential(name, name, kind, name)
    return Member(who, upstream, StaticToken(Secret("key")), ("https://base.test",), models)


class CandidatesTests(SynchronousTestCase):
    """Who may serve a request at all."""

    def names(self, members: list[Member], verb: str, model: str) -> list[str]:
        return [one.credential.name for one in candidates(members, verb, model)]

    def test_kind_and_models_decide(self) -> None:
        """Only kinds that have the method, and only upstreams that are to serve the model; none named is all."""
        members = [member("aistudio", "s"), member("codeassist", "c"), member("aistudio", "e", "emb*", "x")]
        table = [
            ("generateContent", "m", ["s", "c"]),
            ("generateContent", "x", ["s", "c", "e"]),
            ("embedContent", "embedding-1", ["s", "e"]),
            ("embedContent", "m", ["s"]),
        ]
        for verb, model, names in table:
            self.assertEqual(self.names(members, verb, model), names, f"{verb} {model}")

    def test_method_that_no_upstream_has_names_the_kinds_that_do(self) -> None:
        """501 UNIMPLEMENTED, with what to add."""
        error = self.assertRaises(GatewayError, candidates, [member("codeassist", "c")], "embedContent", "m")
        self.assertEqual((error.code, error.status, error.reason), (501, "UNIMPLEMENTED", "METHOD_NOT_ON_UPSTREAM"))
        self.assertIn("aistudio", error.message)

    def test_model_that_no_upstream_may_serve_is_not_found(self) -> None:
        """404, with where to look."""
        error = self.assertRaises(GatewayError, candidates, [member("aistudio", "s", "a*")], "generateContent", "m")
        self.assertEqual((error.code, error.reason), (404, "MODEL_NOT_SERVED"))

    def test_without_credentials_nobody_is_to_blame(self) -> None:
        """K5: an empty pool is no missing method."""
        self.assertEqual(candidates([], "embedContent", "m"), [])
