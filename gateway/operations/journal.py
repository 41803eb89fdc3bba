"""The log's recorder: one line a request, and one for every credential that goes out."""

from __future__ import annotations

import time
from typing import Any, Protocol

from twisted.logger import Logger, LogLevel

from gateway.calls import Attempt, Credential, Decision, Ended, Journal, Option

_log = Logger(namespace="gateway.access")

_REQUEST = (
    "{id} {peer} {method} {path} {status} {reason} model={model} credential={credential} attempts={attempts}"
    " first={first} whole={whole:.3f}s in={bytes_in} out={bytes_out} tokens={tokens} finish={finish}"
)


_TRACED = _REQUEST + " trace={trace_id}"


class Lines(Protocol):
    """What can do with a request's text alone."""

    @property
    def takes_text(self) -> bool:
        """Whether nobody wants more of it just now."""

    def told(self, seconds: float, namespace: str, message: str) -> None:
        """Take an event at info: when it was, whose it is, and its text."""


class LogRecorder:
    """Writes what happens to the log; of a request neither its query nor its bodies.

    ``lines`` is where the log goes, if nobody else looks at its events.
    """

    def __init__(self, lines: Lines | None = None) -> None:
        self._lines = lines

    def attempted(self, journal: Journal, attempt: Attempt) -> None:
        """Log an attempt that failed, at debug."""
        if attempt.reason:
            _log.debug(
                "{id} attempt {n} on {credential} at {base}: {status} {reason} after {seconds:.3f} s",
                id=journal.request_id,
                n=len(journal.attempts),
                credential=attempt.credential,
                base=attempt.base or "-",
                status=attempt.status,
                reason=attempt.reason,
                seconds=attempt.seconds,
            )

    def ended(self, event: Ended) -> None:
        """Log a request, at info, and before it at debug why its credentials were chosen."""
        journal = event.journal
        if journal.decisions:
            for number, decision in enumerate(journal.decisions, 1):
                self._decided(journal, number, decision)
        if self._lines is not None and self._lines.takes_text:
            # A quarter of what the event costs of which nobody would look at more.
            self._lines.told(time.time(), _log.namespace, _text(event))
        else:
            # As Logger.info does it, which looks at an event from more sides than that of every request needs.
            _log.observer(_fields(event))

    def _decided(self, journal: Journal, number: int, decision: Decision) -> None:
        _log.debug(
            "{id} choice {n}: {credential} ({why}) after {waited:.3f} s of waiting, session={session}; out: {out}",
            id=journal.request_id,
            n=number,
            credential=next((option.label for option in decision.options if option.chosen), "nobody"),
            why=decision.why or "nobody is free",
            waited=decision.waited,
            session=journal.session or "-",
            out="; ".join(_words(option) for option in decision.options if not option.chosen) or "-",
        )

    def quarantined(self, credential: Credential, reason: str, link: str) -> None:
        """Log that somebody has to act, at error."""
        own = f"{credential.upstream}/{credential.name}"
        _log.error(
            "credential {credential}{known_as} is out until its operator acts: {reason}{owner}; mend that, and run"
            " `antigravity accounts clear {upstream}/{name}`",
            credential=credential.label,
            known_as="" if credential.label == own else f" ({own})",
            upstream=credential.upstream,
            name=credential.name,
            reason=reason,
            owner=f", its owner must open {link}" if link else "",
            link=link,
        )

    def halted(self, upstream: str) -> None:
        """Log that a whole upstream stands still, at critical."""
        _log.critical(
            "upstream {upstream} stands still until its operator says go: two of its accounts were refused for terms"
            " of service or verification within ten minutes, and the others are kept from the same; look at both"
            " (`antigravity accounts list`), and run `antigravity accounts resume {upstream}`",
            upstream=upstream,
        )


def _words(option: Option) -> str:
    free = "" if option.free_seconds is None else f", free in {option.free_seconds:.1f} s"
    return f"{option.label} {option.state} {option.reason}".rstrip() + free


def _text(event: Ended) -> str:
    """Return what ``_REQUEST`` makes of a request's fields."""
    journal, usage = event.journal, event.usage
    first = "-" if journal.first_byte is None else f"{journal.first_byte - journal.started:.3f}s"
    tokens = "-" if usage is None else f"{usage.prompt}+{usage.candidates}"
    return (
        f"{journal.request_id} {journal.peer} {journal.method} {journal.path} {event.status} {event.reason or '-'}"
        f" model={journal.model or '-'} credential={journal.credential or '-'} attempts={len(journal.attempts)}"
        f" first={first} whole={event.seconds:.3f}s in={event.bytes_in} out={event.bytes_out} tokens={tokens}"
        f" finish={event.finish_reason or '-'}{'' if journal.trace is None else f' trace={journal.trace.trace_id}'}"
    )


def _fields(event: Ended) -> dict[str, Any]:
    """Return the log's event of a request, for whoever wants more than its text."""
    journal, usage = event.journal, event.usage
    first = None if journal.first_byte is None else journal.first_byte - journal.started
    fields = {
        "log_logger": _log,
        "log_level": LogLevel.info,
        "log_namespace": _log.namespace,
        "log_source": None,
        "log_format": _REQUEST,
        "log_time": time.time(),
        "id": journal.request_id,
        "peer": journal.peer,
        "method": journal.method,
        "path": journal.path,
        "status": event.status,
        "reason": event.reason or "-",
        "origin": event.origin,
        "model": journal.model or "-",
        "requested_model": journal.requested_model,
        "credential": journal.credential or "-",
        "upstream": journal.upstream,
        "session": journal.session,
        "upstream_trace_id": journal.trace_id,
        "attempts": len(journal.attempts),
        "first": "-" if first is None else f"{first:.3f}s",
        "first_seconds": first,
        "whole": event.seconds,
        "bytes_in": event.bytes_in,
        "bytes_out": event.bytes_out,
        "tokens": "-" if usage is None else f"{usage.prompt}+{usage.candidates}",
        "finish": event.finish_reason or "-",
    }
    if journal.trace is not None:
        fields.update(log_format=_TRACED, trace_id=journal.trace.trace_id, span_id=journal.trace.span_id)
    return fields
