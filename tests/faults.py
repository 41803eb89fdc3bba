"""The faults that the gateway is held to, and what it does about each.  Pure.

A test names what it proves by these ids in its docstring, or all tests of a class do where that of the class begins
with them.  In which mode it proves it is said by its class, whose
``mode`` is ``P`` where it runs the real process, and otherwise ``T``: in memory, on a clock of the test's own.  ``X``
is an outside corpus or tool: ``C9/X`` in a docstring names id and mode together.  tests/matrix.py puts the table and
the tests together.
"""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen
class Fault:
    """One row."""

    what: str
    does: str
    modes: str
    """A letter for each mode in which a test must prove it."""
    differs: str = ""
    """Where the gateway does otherwise than the row's first design, or proves it otherwise, and why."""
    waits: str = ""
    """For what it waits; such a row needs no test yet."""


SECTIONS: Final = {
    "U": "What upstream answers",
    "C": "Connections, time and content",
    "K": "Credentials, the pool and the clock",
    "L": "Clients",
    "P": "The process and its host",
}

FAULTS: Final = {
    "U1": Fault("400 of the client's making", "Passed on as it is, after one attempt; nobody is blamed.", "T"),
    "U2": Fault(
        "400 that names a bad or expired API key",
        "The key is quarantined and the next one tried; the client never sees it, and gets 503 where none is left.",
        "T",
    ),
    "U3": Fault(
        "400 FAILED_PRECONDITION: region, billing",
        "One try with a credential of another project, then passed on; a project that must pay, or is out of its"
        " region, rests.",
        "T",
        differs="The project rests for five minutes rather than until somebody acts: billing is mended at Google's, and"
        " nobody tells the gateway.",
    ),
    "U4": Fault(
        "401",
        "One forced refresh for all who wait, the same account once more, then the next; never shown.",
        "T",
        differs="An account refused with a fresh token rests 15 s, doubled each time, and only the sixth refusal in a"
        " row quarantines it: identity services have outages of minutes, and nobody puts accounts in again after each.",
    ),
    "U5": Fault("403 about the credential", "Quarantined, the next one tried; 503 where none is left.", "T"),
    "U6": Fault(
        "403 about terms, verification or a suspension",
        "Quarantined until the operator acts, with Google's link in the log; two within ten minutes halt the upstream.",
        "T",
    ),
    "U7": Fault(
        "403 or 404 about the model",
        "Passed on; the credential stays usable.",
        "T",
        differs="A 403 is tried with one more credential, and the first rests 5 s for this model; a 404 is asked of the"
        " other bases: Google says both of models that are not rolled out everywhere.",
    ),
    "U8": Fault("408", "Once more elsewhere, then 504.", "T"),
    "U9": Fault(
        "429 that says how long",
        "The quota's owner rests for this model, another credential answers; else 429 with the earliest Retry-After.",
        "T",
    ),
    "U10": Fault(
        "429 of a day's quota",
        "Rests to the reset, else to midnight US Pacific, tried by one probe at a time; RetryInfo is a lower bound.",
        "T",
    ),
    "U11": Fault(
        "429 that says nothing",
        "One second, doubled to at most sixty; any Retry-After is read and clamped.",
        "T",
        differs="The jitter adds up to a fifth and takes nothing away, so that nobody comes back too early.",
    ),
    "U12": Fault("500", "One retry elsewhere, then passed on.", "T"),
    "U13": Fault(
        "502, 503, no capacity",
        "Tried again within the budget, with Retry-After respected; a base that keeps failing is left out for a while,"
        " never the last.",
        "T",
        differs="Another base or credential is asked at once, for it needs no pause; the same one is not asked twice"
        " in a request.",
    ),
    "U14": Fault("504", "One retry while the client's deadline allows it, then passed on.", "T"),
    "U15": Fault(
        "any other status",
        "4xx and 5xx are passed on; what makes no sense as an answer is 502; 1xx are swallowed.",
        "T",
    ),
    "U16": Fault("3xx", "Never followed: 502, and the place that it names gets no byte.", "T"),
    "U17": Fault(
        "an error body that is huge, HTML, no JSON, or comes with a 200",
        "At most 64 KiB are looked at, a google.rpc.Status is made; a stream's error event is passed on and judged.",
        "T",
    ),
    "C1": Fault(
        "connection refused",
        "Another base or attempt, then 503; no credential is blamed.",
        "P",
    ),
    "C2": Fault(
        "an unknown name",
        "503, and the base rests for a second; the resolver's threads are Twisted's ten.",
        "TP",
    ),
    "C3": Fault(
        "TLS: unknown authority, wrong host, expired, self-signed, old version",
        "502 UPSTREAM_TLS; nothing is sent, and nothing turns the check off.",
        "P",
        differs="An authority of the operator's own is named by SSL_CERT_FILE, as for every program that uses OpenSSL,"
        " and not by a key of the configuration.",
    ),
    "C4": Fault("a connection that is never accepted", "Given up after the limit, tried again, then 504.", "TP"),
    "C5": Fault(
        "no first byte",
        "504; X-Server-Timeout shortens the wait; a stream is tried once more, a unary call never.",
        "T",
    ),
    "C6": Fault("a stream that stalls", "Upstream is closed and the client sees a broken stream.", "T"),
    "C7": Fault(
        "a reset, an early FIN, a short body",
        "Never a clean end: before the first event another attempt, after it visible truncation.",
        "TP",
    ),
    "C8": Fault(
        "a kept connection that closes under the request",
        "Sent once more, on a new one, unless the answer had begun or a while had passed.",
        "P",
    ),
    "C9": Fault(
        "odd framing of events",
        "Payloads are untouched, comments and unknown fields dropped; the next blank line starts anew.",
        "X",
        differs="The outside cases are those of the HTML standard, written down anew, since no registry has the Web"
        " Platform Tests; an event without data is dropped and an unfinished one at a clean end counts.",
    ),
    "C10": Fault("events split anywhere", "The same events, byte for byte.", "T"),
    "C11": Fault("invalid UTF-8 in an event", "Relayed as it is.", "T"),
    "C12": Fault(
        "one endless line",
        "Up to limits.event it is one event; beyond it the stream counts as broken and nothing more is held.",
        "P",
    ),
    "C13": Fault(
        "a chunk that is truncated, overlong or garbage",
        "A broken stream, or 502.",
        "X",
        differs="llhttp's packages come without its cases: these are our own, each judged by h11 as well.",
    ),
    "C14": Fault("a stream of another content type", "502, or upstream's own JSON error; never relabelled.", "T"),
    "C15": Fault(
        "a compressed answer: bomb, unknown, doubled, truncated",
        "None is asked for and none is unpacked: 502, and an error is judged by its status.",
        "T",
    ),
    "C16": Fault(
        "hostile heads: CL with TE, folded lines, megabytes, thousands of fields, cookies, hop-by-hop",
        "502 or left out; the client sees only fields of a list.",
        "X",
        differs="The cases are our own, each judged by h11 as well.",
    ),
    "C17": Fault(
        "an answer before the request is sent",
        "Relayed; sending stops, the connection is closed.",
        "TP",
        differs="With wire.agent: stock, Twisted's agent sends the rest before it closes.",
    ),
    "C18": Fault(
        "one side slower than the other",
        "Answers flow at the client's pace, up to upstream's socket.",
        "P",
        differs="A request's body is taken whole, up to limits.body, before upstream is asked: it may have to be sent"
        " more than once.",
    ),
    "K1": Fault("a revoked refresh token", "Quarantined for good, over restarts; the next account answers.", "T"),
    "K2": Fault(
        "the token endpoint fails or is down",
        "Tokens serve to their end; refreshed ahead, once for all, with back-off.",
        "T",
    ),
    "K3": Fault("the token endpoint answers junk", "A failure, or clamped to between a minute and a day.", "T"),
    "K4": Fault("every credential rests", "429 with the earliest Retry-After and RetryInfo; or a queue.", "T"),
    "K5": Fault(
        "no credential is usable",
        "503 without Retry-After; /readyz is 503, /healthz stays 200.",
        "T",
    ),
    "K6": Fault(
        "the clock jumps",
        "Durations are monotonic; deadlines that were stored are clamped when they are read.",
        "TP",
    ),
    "K7": Fault(
        "Redis is down, slow, flushed",
        "Local limits go on; what authenticates fails closed.",
        "TP",
        waits="state that is shared between machines, which this version does not have",
    ),
    "K8": Fault("two daemons with one state directory", "The second ends with a sentence, before it writes.", "P"),
    "K9": Fault("a storm of retries", "At most 1.1 attempts a request while everything fails.", "T"),
    "K10": Fault("everybody is freed at once", "Jitter, and one probe for each quota owner and model.", "T"),
    "L1": Fault(
        "a client that leaves before the first byte",
        "Upstream is closed within a second; nothing is blamed or retried; logged as 499.",
        "TP",
    ),
    "L2": Fault("a client that leaves in mid-stream", "Upstream is closed within a second.", "P"),
    "L3": Fault(
        "a slow reader",
        "Upstream is paused; memory for it is bounded; one that takes nothing is dropped in the end.",
        "PX",
    ),
    "L4": Fault("a slow head or body", "A deadline for the head, a least rate for the body: 408 and close.", "X"),
    "L5": Fault(
        "a client that half-closes",
        "It has left, unless proxy.half_close says to answer it.",
        "P",
        differs="Over TLS it has always left: Twisted's TLS knows no half-closed connection.",
    ),
    "L6": Fault("pipelined requests", "Answered one by one, in order.", "PX"),
    "L7": Fault(
        "ambiguous framing, forged or malformed heads",
        "400, or 417, 431, 501, 505 as the fault is, and close; upstream gets nothing.",
        "X",
    ),
    "L8": Fault(
        "a body over the limit, or from a stranger",
        "413, or 401, when the head is complete; nothing of it is kept.",
        "P",
    ),
    "L9": Fault(
        "a long target, a long head, an unknown or wrong method",
        "414, 431, 501, 405 with Allow, all in Google's JSON.",
        "TX",
    ),
    "L10": Fault(
        "JSON that is none, or hostile",
        "400, never 500; what is relayed is the client's own bytes.",
        "X",
        "A name that comes twice is let pass and its last value counts, as JSONTestSuite asks (y_object_duplicated_key)"
        " and Google's parser has it, so that gateway and upstream read the same.",
    ),
    "L11": Fault("tricks with the path", "Paths to upstream are built from checked parts; else 400 or 404.", "T"),
    "L12": Fault("keys: none, wrong, several, odd", "One and the same 401 for all; one that fits is enough.", "T"),
    "L13": Fault("guessing keys", "A bucket for each address; good keys from there still serve.", "T"),
    "L14": Fault("a foreign Host or Origin", "403; no CORS headers unless configured.", "T"),
    "L15": Fault("Upgrade, CONNECT, TRACE", "Ignored or refused; nothing is tunnelled.", "X"),
    "L16": Fault("a key over its rate or concurrency", "429 with Retry-After; the reason says whose limit.", "T"),
    "P1": Fault(
        "SIGTERM with requests under way",
        "Not ready, no new ones, those under way end or are cut off visibly; exit 0.",
        "P",
        differs="The drain lasts 60 s at most unless timeouts.drain says otherwise; five minutes would outlast"
        " most supervisors' patience.",
    ),
    "P2": Fault(
        "a restart",
        "With a socket that outlives the process nobody is refused.",
        "P",
        differs="The socket is held by a parent of the test's own: systemd-socket-activate becomes the daemon and"
        " ends with it.",
    ),
    "P3": Fault("SIGHUP, good configuration", "Replaced at once and whole; what is under way keeps the old.", "P"),
    "P4": Fault(
        "SIGHUP, broken configuration",
        "The old stays in force; log, metric and status say why.",
        "P",
    ),
    "P5": Fault(
        "kill -9 while state is written",
        "The old or the new file, never neither.",
        "P",
        differs="There is no .bak beside it: the old file stays until the new one is whole, and what cannot be"
        " read is put aside.",
    ),
    "P6": Fault(
        "a disk that is full, read-only or broken",
        "Serves on from memory, and says so.",
        "P",
        differs="A full disk is a limit on the size of files, and strace's injected errors, rather than a mount that"
        " only root can make.",
    ),
    "P7": Fault("a log that is rotated, full or gone", "Reopened; no request fails of it.", "P"),
    "P8": Fault("no more descriptors", "New ones wait or are refused, those under way go on; recovers.", "P"),
    "P9": Fault("no more memory", "503 OVERLOADED before it comes to that.", "P"),
    "P10": Fault("secrets that others may read, links", "It does not start, and says what to run.", "TP"),
    "P11": Fault(
        "a corrupt state file",
        "Put aside; it starts with what is safe, and says so.",
        "T",
        differs="A file of a newer version ends the start with a sentence instead: to start without it would lose"
        " what it says.",
    ),
    "P12": Fault(
        "a port that cannot be had",
        "Ends within two seconds with one line.",
        "P",
    ),
    "P13": Fault("a fault of our own", "500 in Google's JSON without a traceback, the request's id in both.", "T"),
    "P14": Fault("a blocked reactor", "Measured, with a stack in the log.", "P"),
    "P15": Fault(
        "SIGPIPE, SIGINT, SIGUSR1, SIGSTOP and SIGCONT",
        "Survived, or an orderly end; rests go on while the process is stopped.",
        "P",
        differs="It is stopped for seconds and not for a minute: the clock is the kernel's either way.",
    ),
}  # fmt: skip
