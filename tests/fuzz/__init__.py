"""Fuzz targets: each module has ``one_input``, which raises where the gateway breaks a promise, and ``SEEDS``; some
have ``more_seeds`` of the corpora (``python -m tests.corpora`` fetches them).

``run.py`` drives them with atheris; ``tests/test_fuzz.py`` gives every target its seeds in the ordinary suite.
"""

TARGETS: tuple[str, ...] = (
    "heads",
    "chunks",
    "connections",
    "callers",
    "responses",
    "sse",
    "bodies",
    "paths",
    "refusals",
    "answers",
    "configuration",
    "ledger",
    "accountfiles",
    "clientkeys",
    "grants",
)
"""The modules of this package that are targets."""

SCRATCH = "scratch-"
"""How the directories begin that targets make for their files, in the current one; ``run.py`` removes them."""
