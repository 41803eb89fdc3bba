"""conf/grafana-dashboard.json and conf/prometheus-rules.yaml: what they name is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from gateway.operations.exposition import Exposition
from gateway.operations.metrics import Metrics
from gateway.tally import Counts
from tests.test_metrics import CREDENTIAL, FakeSituation, ended

CONF = Path(__file__).parent.parent / "conf"
RULES: Any = yaml.safe_load((CONF / "prometheus-rules.yaml").read_text("utf-8"))
DASHBOARD: Any = json.loads((CONF / "grafana-dashboard.json").read_text("utf-8"))
NAME = re.compile(r"\b(?:agw|process)_[a-z_]+")
SELECTOR = re.compile(r"((?:agw|process)_[a-z_]+)\{([^}]*)\}")
GROUPED = re.compile(r"\bby \(([^)]*)\) \((?:rate|increase)?\(?((?:agw|process)_[a-z_]+)")
ADDED = {"instance", "job", "le"}
"""What Prometheus adds to every sample, and to those of buckets."""


def rules() -> list[Any]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def panels() -> list[Any]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """All that is asked for, and where."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def samples() -> dict[str, set[str]]:
    """The labels of everything that the gateway may tell, by the names of its samples."""
    metrics = Metrics(lambda model: True)
    metrics.ended(ended(verb="streamGenerateContent", key_id="key-1"))
    metrics.ended(ended(reason="UPSTREAM_IDLE"))
    metrics.ended(ended(401, "CLIENT_KEY_INVALID", "gateway"))
    metrics.quarantined(CREDENTIAL, "", "")
    metrics.halted("studio")
    for counts, labels in ((metrics.attempts, 2), (metrics.credentials, 3), (metrics.upstream_errors, 1)):
        assert isinstance(counts, Counts)
        counts[("x",) * labels] += 1
    page = Exposition(metrics, FakeSituation()).render()[0].decode()
    return {
        sample.name: set(sample.labels) for family in text_string_to_metric_families(page) for sample in family.samples
    }


class ConfTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.samples = samples()

    def test_every_metric_that_they_name_is_ours(self) -> None:
        """In alert rules and in panels; a metric that was renamed takes them along."""
        asked = list(expressions())
        self.assertGreater(len(asked), 50)
        for where, expression in asked:
            named = set(NAME.findall(expression))
            self.assertTrue(named, where)
            self.assertEqual(named - set(self.samples), set(), where)

    def test_every_label_that_they_name_is_that_metrics(self) -> None:
        """What is selected by and what is grouped by."""
        found = 0
        for where, expression in expressions():
            for name, selected in SELECTOR.findall(expression):
                labels = set(re.findall(r"(\w+)\s*(?:=~|!=|=)", selected))
                self.assertEqual(labels - self.samples[name] - ADDED, set(), where)
                found += 1
            for grouped, name in GROUPED.findall(expression):
                labels = set(grouped.replace(" ", "").split(","))
                self.assertEqual(labels - self.samples[name] - ADDED, set(), where)
                found += 1
        self.assertGreater(found, 80)

    def test_what_an_alert_says_names_labels_that_it_has(self) -> None:
        """Each has a name of its own, a severity, a sentence and what to do."""
        names = [rule["alert"] for rule in rules()]
        self.assertEqual(len(names), len(set(names)))
        for rule in rules():
            self.assertIn(rule["labels"]["severity"], ("critical", "warning"), rule["alert"])
            self.assertEqual(set(rule["annotations"]), {"summary", "description"}, rule["alert"])
            possible = set.union(*(self.samples[name] for name in NAME.findall(rule["expr"]))) | ADDED
            for text in rule["annotations"].values():
                self.assertLessEqual(set(re.findall(r"\$labels\.(\w+)", text)), possible, rule["alert"])

    def test_panels_can_be_told_apart_and_read(self) -> None:
        """Ids and titles are not doubled, places do not overlap, every panel has a unit and asks the chosen source."""
        idents = [panel["id"] for panel in DASHBOARD["panels"]]
        titles = [panel["title"] for panel in panels()]
        self.assertEqual((len(idents), len(titles)), (len(set(idents)), len(set(titles))))
        taken: set[tuple[int, int]] = set()
        for panel in DASHBOARD["panels"]:
            at = panel["gridPos"]
            self.assertLessEqual(at["x"] + at["w"], 24, panel["title"])
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            self.assertFalse(cells & taken, panel["title"])
            taken |= cells
        for panel in panels():
            self.assertTrue(panel["fieldConfig"]["defaults"]["unit"], panel["title"])
            for target in panel["targets"]:
                self.assertEqual(target["datasource"], {"type": "prometheus", "uid": "${datasource}"})
        variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
        self.assertEqual(variables, {"datasource", "instance"})

    def test_no_metric_of_ours_is_left_unlooked_at_without_need(self) -> None:
        """What the dashboard and the rules leave out is a short list."""
        named = {name for _, expression in expressions() for name in NAME.findall(expression)}
        families = {re.sub(r"_(?:bucket|count|sum)$", "", name) for name in self.samples if name.startswith("agw_")}
        left = families - {re.sub(r"_(?:bucket|count|sum)$", "", name) for name in named}
        self.assertEqual(
            left,
            {
                "agw_config_reloads_total", "agw_config_reload_failures_total", "agw_config_loaded_timestamp_seconds",
                "agw_state_write_errors_total", "agw_reactor_lag_max_seconds", "agw_usage_waiting", "agw_traces_total",
            },
        )  # fmt: skip
