"""The package's own table of models, for the time before an upstream has listed its own.  Pure.

Limits are those that https://ai.google.dev/gemini-api/docs/models states.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.upstreams.models import Model

_GENERATES = ("generateContent", "streamGenerateContent", "countTokens")
_EMBEDS = ("embedContent", "batchEmbedContents", "countTokens")

TABLE: Mapping[str, Model] = {
    model.id: model
    for model in (
        Model("gemini-3-pro-preview", input_tokens=1_048_576, output_tokens=65_536, verbs=_GENERATES),
        Model("gemini-2.5-pro", input_tokens=1_048_576, output_tokens=65_536, verbs=_GENERATES),
        Model("gemini-2.5-flash", input_tokens=1_048_576, output_tokens=65_536, verbs=_GENERATES),
        Model("gemini-2.5-flash-lite", input_tokens=1_048_576, output_tokens=65_536, verbs=_GENERATES),
        Model("gemini-2.5-flash-image", input_tokens=65_536, output_tokens=32_768, verbs=_GENERATES),
        Model("gemini-2.0-flash", input_tokens=1_048_576, output_tokens=8_192, verbs=_GENERATES),
        Model("gemini-2.0-flash-lite", input_tokens=1_048_576, output_tokens=8_192, verbs=_GENERATES),
        Model("gemini-embedding-001", input_tokens=2_048, verbs=_EMBEDS),
        Model("imagen-4.0-generate-001", input_tokens=480, verbs=("predict",)),
    )
}
