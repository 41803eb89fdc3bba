"""How fast a client has to be: deadlines for a head, a least rate for a body, an end to silence.  Pure."""

from __future__ import annotations

import enum

import attrs
import msgspec

UNSENT_LOOK_SECONDS = 1.0
"""How often a connection is looked at while something waits for its client to take it."""
ANSWER_LOOK_SECONDS = 5.0
"""How often it is looked at while an answer is being made."""
CLOSE_SECONDS = 15.0
"""For how long a connection may be closing when nothing waits on it any more."""


class Late(enum.Enum):
    """What a client has let pass."""

    HEAD = "head"
    """It did not complete a head."""
    BODY = "body"
    """It sends its body too slowly."""
    IDLE = "idle"
    """It asked for nothing more."""
    UNTAKEN = "untaken"
    """It takes nothing of what is written to it."""
    UNCLOSED = "unclosed"
    """It does not answer a close, as TLS has it."""


class Phase(enum.Enum):
    """Where a connection is."""

    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"
    IDLE = "idle"
    CLOSING = "closing"


# Python 3.11 takes three times as long to find a member by its enumeration.
_HEAD, _BODY, _ANSWER, _IDLE, _CLOSING = Phase


class Paces(msgspec.Struct, frozen=True):
    """What is asked of every client, in seconds and bytes a second."""

    head: float
    """For a whole head, from its first byte; of a new connection from its beginning."""
    body: float
    """For how long a body may be slower than its rate."""
    body_rate: float
    idle: float
    """Between an answer and the next head."""
    write: float
    """During which nothing of what waits is taken."""


@attrs.define(eq=False, repr=False)
class Pace:
    """The pace of one connection; whoever owns it says what happens, and looks when ``due`` has come."""

    paces: Paces
    since: float
    """When the phase, or within a body the stretch that is measured, began."""
    due: float
    """When it is to be looked at again."""
    phase: Phase = _HEAD
    begun: bool = False
    """Whether a byte of the head has come."""
    _counted: int = 0
    """The body's bytes when the stretch began."""
    _unsent: int = 0
    _taken: float = 0.0
    """When the client last took something, as far as is known."""

    @classmethod
    def of(cls, paces: Paces, now: float) -> Pace:
        """Return that of a new connection."""
        return cls(paces, now, now + paces.head)

    def came(self, now: float) -> None:
        """Bytes have come."""
        if not self.begun:
            self.begun = True
            if self.phase is _IDLE:
                self._enter(_HEAD, now, self.paces.head)

    def head_over(self, now: float) -> None:
        """A head is complete and its body begins."""
        if self.phase is not _CLOSING:
            self._counted = 0
            self.phase, self.since, self.due = _BODY, now, now + self.paces.body

    def body_over(self, now: float) -> None:
        """A request is complete."""
        if self.phase is not _CLOSING:
            self.phase, self.since, self.due = _ANSWER, now, now + ANSWER_LOOK_SECONDS

    def answered(self, now: float) -> None:
        """A request is over."""
        self.begun = False
        if self.phase is not _CLOSING:
            self.phase, self.since, self.due = _IDLE, now, now + min(self.paces.idle, ANSWER_LOOK_SECONDS)

    def closing(self, now: float) -> None:
        """The connection is being closed, which nothing undoes."""
        self._enter(_CLOSING, now, UNSENT_LOOK_SECONDS)

    def drained(self) -> None:
        """All that was written has been taken."""
        self._unsent = 0

    def judge(self, now: float, received: int, unsent: int) -> Late | None:
        """Say what the client is late with, if anything, and when to look again.

        ``received`` counts the bytes of the body, ``unsent`` those that wait for the client.
        """
        if unsent:
            return self._judge_taking(now, unsent)
        self._unsent = 0
        if self.phase is _ANSWER:
            self.due = now + ANSWER_LOOK_SECONDS
            return None
        if self.phase is _BODY:
            return self._judge_body(now, received)
        limit, late = self._limit()
        if now - self.since >= limit:
            return late
        self.due = min(self.since + limit, now + ANSWER_LOOK_SECONDS)
        return None

    def _limit(self) -> tuple[float, Late]:
        if self.phase is _HEAD:
            return self.paces.head, Late.HEAD
        return (self.paces.idle, Late.IDLE) if self.phase is _IDLE else (CLOSE_SECONDS, Late.UNCLOSED)

    def _judge_body(self, now: float, received: int) -> Late | None:
        stretch = now - self.since
        if stretch >= self.paces.body:
            if received - self._counted < self.paces.body_rate * stretch:
                return Late.BODY
            self.since, self._counted = now, received
        self.due = self.since + self.paces.body
        return None

    def _judge_taking(self, now: float, unsent: int) -> Late | None:
        if not self._unsent or unsent < self._unsent:
            self._taken = now
        self._unsent = unsent
        if now - self._taken >= self.paces.write:
            return Late.UNTAKEN
        if self.phase is not _HEAD:
            # Who still takes an answer has not been idle, nor have its next bytes been waited for.
            self.since = now
        self.due = now + UNSENT_LOOK_SECONDS
        return None

    def _enter(self, phase: Phase, now: float, seconds: float) -> None:
        if self.phase is _CLOSING:
            return
        self.phase, self.since = phase, now
        self.due = now + seconds
