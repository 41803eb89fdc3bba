"""The metrics' recorder: counts in plain numbers; nothing is rendered before somebody asks."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import attrs

from gateway.calls import Attempt, Credential, Ended, Journal
from gateway.tally import Counts, Histogram, Names

REASONS_MOST = 200
"""So many names of upstream's own are told apart; whatever comes after them is ``other``."""
MODELS_MOST = 100
CREDENTIALS_MOST = 500
"""More than one machine's pool has; credentials that come and go do not add up for ever."""
KEYS_MOST = 500
STREAMS = "streamGenerateContent"
NO_MODEL = "none"
"""The label of requests that never came to name a model, such as those that were refused at the door."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


def _is_name(reason: str) -> bool:
    return _NAME.match(reason) is not None


@attrs.define(eq=False, repr=False)
class OfModel:
    """What is counted of one model's requests."""

    whole: Histogram = attrs.field(factory=Histogram)
    first_token: Histogram = attrs.field(factory=Histogram)
    """Of streams that were answered, alone: an answer in one piece has no first token."""
    streams: int = 0
    prompt: int = 0
    candidates: int = 0
    thoughts: int = 0
    cached: int = 0


@attrs.define(eq=False, repr=False)
class OfKey:
    """What is counted of one client key's requests."""

    requests: int = 0
    failed: int = 0
    tokens: int = 0


@attrs.define(eq=False, repr=False)
class Metrics:
    """What happened since the start; no label is a client's choice.

    ``known`` says whether a model is in the catalogue; the others are ``other``.
    """

    known: Callable[[str], bool]
    requests: Counts = attrs.field(factory=Counts)
    """By (status, origin)."""
    errors: Counts = attrs.field(factory=Counts)
    """By (origin, reason)."""
    attempts: Counts = attrs.field(factory=Counts)
    """By (upstream, reason); the reason of a good one is ``ok``."""
    credentials: Counts = attrs.field(factory=Counts)
    """Attempts by (credential, upstream, outcome)."""
    upstream_errors: Counts = attrs.field(factory=Counts)
    """By (status,): ``none`` where no answer came."""
    truncated: Counts = attrs.field(factory=Counts)
    """By (reason,): streams that began and did not come to their end."""
    clients_left: int = 0
    quarantines: Counts = attrs.field(factory=Counts)
    """By (upstream,)."""
    halts: Counts = attrs.field(factory=Counts)
    """By (upstream,)."""
    keys: dict[str, OfKey] = attrs.field(factory=dict)
    """By the client keys' ids."""
    models: dict[str, OfModel] = attrs.field(factory=dict)
    bytes_in: int = 0
    bytes_out: int = 0
    first_byte: Histogram = attrs.field(factory=Histogram)
    _reason_names: Names = attrs.field(factory=partial(Names, REASONS_MOST, _is_name))
    _credential_names: Names = attrs.field(factory=partial(Names, CREDENTIALS_MOST, bool))
    _key_names: Names = attrs.field(factory=partial(Names, KEYS_MOST, bool))
    _model_names: Names = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._model_names = Names(MODELS_MOST, self.known)

    def attempted(self, journal: Journal, attempt: Attempt) -> None:
        """Count an attempt, and upstream's error if it was one."""
        upstream, credential = journal.upstream, self._credential_names.label(attempt.credential)
        if not attempt.reason:
            self.attempts[upstream, "ok"] += 1
            self.credentials[credential, upstream, "ok"] += 1
            return
        self.attempts[upstream, self._reason_names.label(attempt.reason)] += 1
        self.credentials[credential, upstream, "failed"] += 1
        self.upstream_errors[(str(attempt.status) if attempt.status else "none",)] += 1

    def ended(self, event: Ended) -> None:
        """Count a request."""
        status, origin, journal = event.status, event.origin, event.journal
        self.requests[status, origin] += 1
        self.bytes_in += event.bytes_in
        self.bytes_out += event.bytes_out
        model = self._model(journal.model)
        model.whole.took(event.seconds)
        if journal.first_byte is not None:
            first = journal.first_byte - journal.started
            self.first_byte.took(first)
            if status == 200 and origin == "upstream" and journal.verb == STREAMS:
                model.streams += 1
                model.first_token.took(first)
        key = self._key(journal.key_id) if journal.key_id else None
        if key is not None:
            key.requests += 1
        if event.reason:
            self._failed(event)
            if key is not None:
                key.failed += 1
        usage = event.usage
        if usage is not None:
            if key is not None:
                key.tokens += usage.taken
            model.prompt += usage.prompt
            model.candidates += usage.candidates
            model.thoughts += usage.thoughts
            model.cached += usage.cached

    def _model(self, name: str) -> OfModel:
        found = self.models.get(name)
        if found is not None:
            return found
        label = self._model_names.label(name) if name else NO_MODEL
        found = self.models.get(label)
        if found is None:
            found = self.models[label] = OfModel()
        return found

    def _key(self, name: str) -> OfKey:
        found = self.keys.get(name)
        if found is not None:
            return found
        label = self._key_names.label(name)
        found = self.keys.get(label)
        if found is None:
            found = self.keys[label] = OfKey()
        return found

    def _failed(self, event: Ended) -> None:
        if event.reason == "CLIENT_LEFT":
            self.clients_left += 1
            return
        reason = self._reason_names.label(event.reason)
        self.errors[event.origin, reason] += 1
        if event.status == 200:
            self.truncated[(reason,)] += 1

    def quarantined(self, credential: Credential, reason: str, link: str) -> None:
        """Count a credential that is out until somebody acts."""
        self.quarantines[(credential.upstream,)] += 1

    def halted(self, upstream: str) -> None:
        """Count an upstream that stands still."""
        self.halts[(upstream,)] += 1
