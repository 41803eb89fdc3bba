"""Grafana's own models before the dashboard: whether they know all that is in it.

Needs grafana-foundation-sdk, which Grafana makes of the schema of its dashboards, so it is no part of the suite:
`.ci/full grafana`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel
from grafana_foundation_sdk.models.prometheus import Dataquery
from twisted.trial.unittest import SynchronousTestCase

from tests.test_dashboards import DASHBOARD, panels


def lost(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Tell what of ours they have not, or otherwise."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name, value in ours.items():
            if name in theirs:
                yield from lost(value, theirs[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(one, other, f"{path}[{number}]")
    elif ours != theirs:
        yield path


class DashboardTests(SynchronousTestCase):
    def setUp(self) -> None:
        register_default_plugins()

    def test_its_models_know_all_that_is_in_it(self) -> None:
        """Read and written by them, it is what it was: they drop whatever their schema has no name for."""
        read = Dashboard.from_json(DASHBOARD)
        written = json.loads(json.dumps(read, cls=JSONEncoder))
        self.assertEqual(list(lost(DASHBOARD, written)), [])

    def test_what_they_have_no_name_for_is_found(self) -> None:
        """The test above could else not fail."""
        spoiled = json.loads(json.dumps(DASHBOARD))
        spoiled["panels"][1]["fieldConfig"]["defaults"]["units"] = "s"
        written = json.loads(json.dumps(Dashboard.from_json(spoiled), cls=JSONEncoder))
        self.assertEqual(list(lost(spoiled, written)), [".panels[1].fieldConfig.defaults.units"])

    def test_each_panel_asks_prometheus_and_is_of_a_kind_that_grafana_brings(self) -> None:
        """Its options are read by that kind's own model, its queries by that of Prometheus."""
        read = [one for one in Dashboard.from_json(DASHBOARD).panels or [] if isinstance(one, Panel)]
        self.assertEqual(len(read), len(panels()))
        for panel in read:
            self.assertFalse(isinstance(panel.options, dict), f"{panel.title}: {panel.type_val}")
            for target in panel.targets or []:
                self.assertIsInstance(target, Dataquery, panel.title)
