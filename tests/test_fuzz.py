"""The fuzz targets take their own seeds, and what fuzzing found stays found."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from tests import fuzz

HERE = Path(fuzz.__file__).parent
NO_TARGETS = {"__init__", "run", "cuts"}


class TargetTests(SynchronousTestCase):
    """What ``tests/fuzz/run.py`` runs."""

    def test_every_module_is_a_target_that_is_run(self) -> None:
        """No target is written and forgotten."""
        self.assertEqual(sorted(fuzz.TARGETS), sorted({path.stem for path in HERE.glob("*.py")} - NO_TARGETS))

    def test_every_target_takes_its_seeds(self) -> None:
        """The promises hold for the inputs that fuzzing starts from, whole and cut short."""
        for target in fuzz.TARGETS:
            module = importlib.import_module(f"tests.fuzz.{target}")
            self.assertTrue(module.SEEDS, target)
            for seed in module.SEEDS:
                for size in {len(seed), len(seed) // 2, len(seed) * 3 // 4}:
                    self._takes(module, seed[:size])

    def _takes(self, module: ModuleType, data: bytes) -> None:
        try:
            module.one_input(data)
        except Exception as problem:
            raise AssertionError(f"{module.__name__} with {data!r}") from problem
