"""The methods of the Gemini API, one line each: https://ai.google.dev/api/all-methods.  Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Verb(msgspec.Struct, frozen=True):
    """A method that is called as ``models/<id>:<verb>``."""

    streams: bool = False
    served: bool = True
    """False where the result lives upstream, with one credential, and is asked for later."""
    session: bool = False
    """Whether it continues a conversation, so that it should stay on its credential."""


VERBS: Mapping[str, Verb] = {
    "generateContent": Verb(session=True),
    "streamGenerateContent": Verb(streams=True, session=True),
    "countTokens": Verb(session=True),
    "embedContent": Verb(),
    "batchEmbedContents": Verb(),
    "predict": Verb(),
    "generateAnswer": Verb(),
    "predictLongRunning": Verb(served=False),
    "batchGenerateContent": Verb(served=False),
    "asyncBatchEmbedContent": Verb(served=False),
    "bidiGenerateContent": Verb(served=False),
}

UNSERVED_COLLECTIONS = (
    "files",
    "cachedContents",
    "batches",
    "operations",
    "tunedModels",
    "corpora",
    "fileSearchStores",
    "dynamic",
)
"""Collections whose resources live upstream with one credential."""
