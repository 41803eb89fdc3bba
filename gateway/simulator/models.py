"""The models that the simulator offers, and their pages.  Pure."""

import attrs

from gateway.simulator.protojson import Json
from gateway.simulator.reasons import Scene, invalid, refuse

_TEXT = ("generateContent", "countTokens", "createCachedContent", "batchGenerateContent")
_EMBED = ("embedContent", "countTextTokens", "countTokens")
_PREDICT = ("predict",)


@attrs.frozen
class Model:
    """A model as models.list describes it."""

    id: str
    title: str
    methods: tuple[str, ...] = _TEXT
    input_limit: int = 1_048_576
    output_limit: int = 65_536
    thinking: bool = False

    def card(self) -> Json:
        """Its entry in the list."""
        card: Json = {
            "name": f"models/{self.id}",
            "version": "001",
            "displayName": self.title,
            "description": f"{self.title}, simulated.",
            "inputTokenLimit": self.input_limit,
            "outputTokenLimit": self.output_limit,
            "supportedGenerationMethods": list(self.methods),
        }
        if self.methods == _TEXT:
            card |= {"temperature": 1, "topP": 0.95, "topK": 64, "maxTemperature": 2}
        return card | {"thinking": True} if self.thinking else card


MODELS = (
    Model("gemini-2.5-pro", "Gemini 2.5 Pro", thinking=True),
    Model("gemini-2.5-flash", "Gemini 2.5 Flash", thinking=True),
    Model("gemini-2.5-flash-lite", "Gemini 2.5 Flash-Lite", thinking=True),
    Model("gemini-2.5-flash-image", "Nano Banana", input_limit=32_768, output_limit=32_768),
    Model("gemini-3-pro-preview", "Gemini 3 Pro Preview", thinking=True),
    Model("gemini-3-flash-preview", "Gemini 3 Flash Preview", thinking=True),
    Model("gemini-2.0-flash", "Gemini 2.0 Flash", output_limit=8_192),
    Model("gemma-3-27b-it", "Gemma 3 27B", input_limit=131_072, output_limit=8_192),
    Model("gemini-embedding-001", "Gemini Embedding 001", _EMBED, 2_048, 1),
    Model("text-embedding-004", "Text Embedding 004", _EMBED, 2_048, 1),
    Model("imagen-4.0-generate-001", "Imagen 4", _PREDICT, 480, 8_192),
)

#: Verb to the method that a model must support for it, where they differ.
METHOD_OF = {
    "streamGenerateContent": "generateContent",
    "batchEmbedContents": "embedContent",
}


@attrs.frozen
class Catalog:
    """A list of models."""

    models: tuple[Model, ...] = MODELS

    def get(self, name: str, verb: str = "", scene: Scene | None = None) -> Model:
        """The model of this id, if it serves ``verb``; raises the 404 refusal of a missing model."""
        method = METHOD_OF.get(verb, verb)
        for model in self.models:
            if model.id == name and (not method or method in model.methods):
                return model
        raise refuse("MODEL_NOT_FOUND", scene or Scene(model=name))

    def page(self, size: str, token: str) -> Json:
        """One page of the list; the last one has no nextPageToken.  50 models a page unless asked, at most 1000."""
        try:
            limit = min(int(size or 50), 1000) or 50
        except ValueError:
            raise invalid(f"Invalid value at 'page_size' (TYPE_INT32), \"{size}\"") from None
        start = 0
        if token:
            if not token.startswith("page-") or not token[5:].isdecimal():
                raise invalid("Invalid page token.")
            start = int(token[5:])
        if limit < 0:
            raise invalid("Page size must not be negative.")
        found: Json = {"models": [model.card() for model in self.models[start : start + limit]]}
        if start + limit < len(self.models):
            found["nextPageToken"] = f"page-{start + limit}"
        return found
