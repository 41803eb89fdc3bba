"""The log's recorder: one line a request, and one for every credential that goes out."""

from __future__ import annotations

from twisted.logger import Logger

from gateway.calls import Attempt, Credential, Ended, Journal

_log = Logger(namespace="gateway.access")


class LogRecorder:
    """Writes what happens to the log; of a request neither its query nor its bodies."""

    def attempted(self, journal: Journal, attempt: Attempt) -> None:
        """Log an attempt that failed, at debug."""
        if attempt.reason:
            _log.debug(
                "{id} attempt {n} on {credential}: {status} {reason} after {seconds:.3f} s",
                id=journal.request_id,
                n=len(journal.attempts),
                credential=attempt.credential,
                status=attempt.status,
                reason=attempt.reason,
                seconds=attempt.seconds,
            )

    def ended(self, event: Ended) -> None:
        """Log a request, at info."""
        journal = event.journal
        usage = event.usage
        first = "-" if journal.first_byte is None else f"{journal.first_byte - journal.started:.3f}"
        _log.info(
            "{id} {peer} {method} {path} {status} {reason} model={model} credential={credential}"
            " attempts={attempts} first={first}s whole={whole:.3f}s in={bytes_in} out={bytes_out}"
            " tokens={tokens} finish={finish}",
            id=journal.request_id,
            peer=journal.peer,
            method=journal.method,
            path=journal.path,
            status=event.status,
            reason=event.reason or "-",
            origin=event.origin,
            model=journal.model or "-",
            requested_model=journal.requested_model,
            credential=journal.credential or "-",
            upstream=journal.upstream,
            session=journal.session,
            trace_id=journal.trace_id,
            attempts=len(journal.attempts),
            first=first,
            whole=event.seconds,
            bytes_in=event.bytes_in,
            bytes_out=event.bytes_out,
            tokens="-" if usage is None else f"{usage.prompt}+{usage.candidates}",
            finish=event.finish_reason or "-",
        )

    def quarantined(self, credential: Credential, reason: str, link: str) -> None:
        """Log that somebody has to act, at error."""
        _log.error(
            "credential {credential} ({upstream}/{name}) is out until its operator acts: {reason} {link}",
            credential=credential.label,
            upstream=credential.upstream,
            name=credential.name,
            reason=reason,
            link=link,
        )

    def halted(self, upstream: str) -> None:
        """Log that a whole upstream stands still, at critical."""
        _log.critical(
            "upstream {upstream} stands still until its operator says go: two of its accounts were refused for terms"
            " of service or verification within ten minutes, and the others are kept from the same",
            upstream=upstream,
        )
