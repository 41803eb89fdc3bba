"""A request's end in, its row out."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import UNSET

from gateway.calls import Attempt, Credential, Ended, Journal
from gateway.usage.prices import Prices
from gateway.usage.schema import MICROSECONDS

STEP_BACK = MICROSECONDS
"""A clock that is set back by more than this is believed: what it says then counts."""


class UsageRecorder:
    """Makes a row of every request that was let in; see calls.Recorder.

    What was refused without a good key, and ``/healthz``, is nobody's usage.  A model that is not ``known`` and did
    not answer stands in its row as it was asked for alone: clients could else make sums without end, of names that
    they make up.
    """

    def __init__(
        self,
        prices: Prices,
        wall_seconds: Callable[[], float],
        put: Callable[[tuple[object, ...]], None],
        known: Callable[[str], bool] = lambda model: True,
    ) -> None:
        self.prices = prices
        self._known = known
        self._wall_seconds = wall_seconds
        self._put = put
        self._last = 0

    def ended(self, event: Ended) -> None:
        """Put the request's row; its values are in the order of schema.COLUMNS."""
        journal = event.journal
        if not journal.key_id:
            return
        now = self._wall_seconds()
        at, last = int(now * MICROSECONDS), self._last
        if last - STEP_BACK < at <= last:
            at = last + 1
        self._last = at
        usage, first, model = event.usage, journal.first_byte, journal.model
        prompt: int | None
        if usage is None:
            if event.status >= 400 and not self._known(model):
                model = ""
            prompt = candidates = thoughts = cached = micros = None
        else:
            prompt, candidates, thoughts, cached = usage.prompt, usage.candidates, usage.thoughts, usage.cached
            micros = event.micros if event.micros is not UNSET else self.prices.cost(model, usage, now)
        self._put(
            (
                at,
                journal.request_id,
                journal.key_id,
                journal.session,
                journal.verb or journal.method,
                journal.requested_model,
                model,
                journal.upstream,
                journal.credential,
                len(journal.attempts),
                event.status,
                event.reason,
                event.origin,
                None if first is None else first - journal.started,
                event.seconds,
                event.bytes_in,
                event.bytes_out,
                prompt,
                candidates,
                thoughts,
                cached,
                event.finish_reason,
                micros,
            )
        )

    def attempted(self, journal: Journal, attempt: Attempt) -> None:
        """Nothing: the journal counts them."""

    def quarantined(self, credential: Credential, reason: str, link: str) -> None:
        """Nothing: nobody's usage."""

    def halted(self, upstream: str) -> None:
        """Nothing: nobody's usage."""
