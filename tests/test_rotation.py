"""Standings and a session in, a choice out."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.standing import Standings
from gateway.accounts.tokens import StaticToken
from gateway.calls import Credential, GatewayError, Secret, Terms
from gateway.config.values import UpstreamConfig
from gateway.routing.pool import Member, candidates
from gateway.routing.rotation import OVERFLOW, STRATEGIES, Choice, Nobody, Sessions, choose
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


def on_terms(name: str, weight: float = 1.0, priority: int = 0, most: int = 0) -> Credential:
    return Credential(name, "up", "aistudio", f"up/{name}", terms=Terms(weight, priority, most))


class StrategyTests(SynchronousTestCase):
    """Who is first among those that can."""

    def setUp(self) -> None:
        self.standings = Standings()

    def chosen(
        self,
        who: list[Credential],
        strategy: str = "sticky",
        bound: Credential | None = None,
        tried: set[Credential] | None = None,
    ) -> Choice | Nobody:
        return choose(who, set(), self.standings, bound, tried or set(), "m", 0.0, STRATEGIES[strategy])

    def served(self, who: list[Credential], strategy: str, count: int) -> str:
        """Return who served that many requests, one after the other."""
        names = ""
        for _ in range(count):
            choice = self.chosen(who, strategy)
            assert isinstance(choice, Choice)
            self.standings.release(self.standings.lease(choice.credential, "m", 0.0))
            names += choice.credential.name
        return names

    def test_round_robin_takes_each_in_turn(self) -> None:
        """However busy one of them is, and whatever session asks."""
        for _ in range(5):
            self.standings.lease(C, "other", 0.0)
        names = self.served([A, B, C], "round_robin", 12)[3:]
        for at in range(len(names) - 2):
            self.assertEqual(set(names[at : at + 3]), set("ABC"), names)
        bound = {"A": A, "B": B, "C": C}[names[-1]]
        self.assertNotEqual(self.chosen([A, B, C], "round_robin", bound=bound), Choice(bound, "session"))

    def test_least_used_goes_by_requests_under_way(self) -> None:
        """Whatever session asks."""
        self.standings.lease(A, "m", 0.0)
        self.assertEqual(self.chosen([A, B], "least_used", bound=A), Choice(B, "least used"))

    def test_shares_follow_weights(self) -> None:
        """One after the other, and side by side."""
        heavy, light = on_terms("H", 3.0), on_terms("L")
        for strategy in STRATEGIES:
            self.standings = Standings()
            names = self.served([heavy, light], strategy, 400)
            self.assertEqual((names.count("H"), names.count("L")), (300, 100), strategy)
            self.assertNotIn("LL", names, strategy)
        for _ in range(8):
            choice = self.chosen([heavy, light], "least_used")
            assert isinstance(choice, Choice)
            self.standings.lease(choice.credential, "m", 0.0)
        self.assertEqual([self.standings.load(one)[0] for one in (heavy, light)], [6, 2])

    def test_one_that_comes_back_does_not_take_all(self) -> None:
        """Who was out for long has no arrears: it takes its turn among the others."""
        self.served([A, B], "round_robin", 100)
        self.assertEqual(self.served([A, B, C], "round_robin", 6).count("C"), 2)

    def test_fallback_serves_when_no_preferred_one_can(self) -> None:
        """Whatever its load, its upstream, or the session; and no longer than that."""
        key, account = on_terms("K", priority=1), on_terms("A", priority=-1)
        for _ in range(3):
            self.standings.lease(account, "m", 0.0)
        for strategy in STRATEGIES:
            first = choose([key, account], {"other"}, self.standings, key, set(), "m", 0.0, STRATEGIES[strategy])
            assert isinstance(first, Choice)
            self.assertEqual(first.credential, account, strategy)
        self.assertEqual(self.chosen([key, account], tried={account}), Choice(key, "rotation"))
        self.standings.cool(account, "m", 10.0, 0.0)
        self.assertEqual(self.chosen([key, account], bound=key), Choice(key, "session"))

    def test_one_at_its_cap_is_passed_over(self) -> None:
        """The session's own too, whose turn comes again; where all are it says that somebody is busy."""
        capped = on_terms("X", most=2)
        leases = [self.standings.lease(capped, "m", 0.0) for _ in range(2)]
        self.assertEqual(self.chosen([capped, B], bound=capped), Choice(B, OVERFLOW))
        self.assertEqual(self.chosen([capped, B], "least_used", bound=capped), Choice(B, "least used"))
        self.standings.cool(B, "m", 10.0, 0.0)
        self.assertEqual(self.chosen([capped, B]), Nobody(10.0, True))
        self.assertEqual(self.chosen([capped, B], tried={capped}), Nobody(10.0))
        self.standings.release(leases[0])
        self.assertEqual(self.chosen([capped, B], bound=capped), Choice(capped, "session"))

    def test_terms_of_now_count_for_an_old_session(self) -> None:
        """Terms are no part of who a credential is."""
        old, new = on_terms("X", most=1), on_terms("X", most=5)
        choice = self.chosen([new], bound=old)
        assert isinstance(choice, Choice)
        self.assertEqual((choice.why, choice.credential.terms), ("session", new.terms))


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
