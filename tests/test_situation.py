"""How a gateway in memory is at this moment, as its pages and metrics tell it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from gateway.operations.exposition import COUNTERS, GAUGES, Exposition
from gateway.operations.metrics import Metrics
from gateway.process.lag import LagWatch
from gateway.situation import Situation
from gateway.upstreams.models import Figure
from tests.fakes import World

MODEL = "gemini-2.5-flash"


class SituationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World.build()
        self.situation = Situation(self.world.composition, LagWatch(self.world.clock))

    def learn(self, *figures: Figure) -> None:
        router = self.world.composition.router
        (one, *_) = router.members
        router.chooser.quotas.learn(one.credential, figures, router.clock.seconds(), router.wall_seconds())

    def test_quotas_are_told_by_models_of_the_catalogue(self) -> None:
        """What upstream says of models that are in no list is one figure, the least of them."""
        self.assertEqual(self.situation.quotas(), [])
        self.learn(Figure(MODEL, 0.5), Figure("unheard-of", 0.75), Figure("unheard-of-too", 0.25))
        told = {row["model"]: row["remaining"] for row in self.situation.quotas()}
        self.assertEqual(told, {MODEL: 0.5, "other": 0.25})

    def test_every_number_has_its_words(self) -> None:
        """What the situation counts is what the page explains, and nothing else."""
        self.assertEqual(set(self.situation.gauges()), set(GAUGES))
        self.assertEqual(set(self.situation.counters()), set(COUNTERS))

    def test_page_can_be_made_of_it(self) -> None:
        """Before anything has happened, with every family at least named."""
        page, _ = Exposition(Metrics(self.situation.known), self.situation).render()
        names = {family.name for family in text_string_to_metric_families(page.decode())}
        self.assertLessEqual({"agw_queue_wait_seconds", "agw_credential_state", "agw_token_refreshes"}, names)

    def test_pool_is_told_without_what_others_need_not_know(self) -> None:
        """States and reasons of upstreams and credentials; no name, project or link."""
        (upstream,) = self.situation.pool()["upstreams"]
        self.assertEqual((upstream["state"], upstream["usable"]), ("ok", upstream["credentials"]))
        for row in self.situation.pool()["credentials"]:
            self.assertFalse({"name", "project", "link"} & set(row))
            self.assertEqual((row["state"], row["reason"]), ("ok", ""))
