"""The pool as its operator sees and steers it: plain values out, which hold no secret."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import msgspec
from twisted.internet.defer import succeed

from gateway.accounts.rests import Availability, State
from gateway.calls import Credential, GatewayError, Option
from gateway.routing.attempts import Router
from gateway.routing.explain import explain
from gateway.routing.pool import Member
from gateway.routing.probe import probe
from gateway.routing.session import fingerprint

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_SECOND = (datetime.min.replace(tzinfo=UTC) - EPOCH).total_seconds()
LAST_SECOND = float((datetime.max.replace(tzinfo=UTC) - EPOCH) // timedelta(seconds=1))

Row = dict[str, Any]
_IN = ("ok", "half-open", "cooling")
"""The states of a credential that can be used, for some models at least."""


@attrs.define(eq=False, repr=False)
class Oversight:
    """Lists, explains, tests, and changes who is used; what it changes is saved at once."""

    router: Router
    upstreams: Mapping[str, str]
    """The kind of every configured upstream, by name."""
    key_ids: Sequence[str] = ("anonymous",)
    """Whose sessions there may be; see edge.keys."""
    save: Callable[[], Awaitable[None]] = lambda: succeed(None)
    """Keeps what was changed; comes back when it is kept."""
    hurry: Callable[[Credential], None] = lambda credential: None
    """Has what a credential lacks looked for at once."""
    configured: Collection[tuple[str, str]] = frozenset()
    """The upstreams and names of the credentials that stand in the configuration, and in no file of their own."""

    def accounts(self) -> list[Row]:
        """Return a row for each credential, in the order of the configuration and the files."""
        return [self._row(member.credential) for member in self.router.members]

    def account(self, upstream: str, name: str) -> Row:
        """Return one credential's row; raises GatewayError."""
        return self._row(self._member(upstream, name).credential)

    def status(self) -> Row:
        """Return what an upstream is and how many of its credentials can be used."""
        rows = self.accounts()
        halted = self.router.standings.halts.all()
        return {
            "strategy": self.router.routing.strategy,
            "in_flight": sum(row["in_flight"] for row in rows),
            "upstreams": [
                {
                    "name": name,
                    "kind": kind,
                    "state": "halted" if name in halted else "ok",
                    "reason": halted.get(name, ""),
                    "credentials": sum(row["upstream"] == name for row in rows),
                    "usable": sum(row["upstream"] == name and row["state"] in _IN for row in rows),
                }
                for name, kind in self.upstreams.items()
            ],
        }

    async def act(self, action: str, upstream: str, name: str) -> tuple[Row, bool]:
        """Disable, enable or clear a credential; return its row and whether that changed anything."""
        credential = self._member(upstream, name).credential
        before = self._row(credential)
        standings = self.router.standings
        if action == "clear":
            standings.clear(credential)
            self.hurry(credential)
        else:
            standings.set_enabled(credential, action == "enable")
        await self._changed()
        after = self._row(credential)
        return after, any(before[key] != after[key] for key in ("state", "reason", "models"))

    async def resume(self, upstream: str) -> bool:
        """Let a halted upstream go on; say whether it stood still.  Raises GatewayError."""
        if upstream not in self.upstreams:
            raise _unknown("UPSTREAM_UNKNOWN", "upstream", upstream, list(self.upstreams))
        resumed = self.router.standings.resume(upstream)
        await self._changed()
        return resumed

    async def test(self, upstream: str, name: str, model: str = "") -> Row:
        """Try a credential with a countTokens call; see routing.probe."""
        member = self._member(upstream, name)
        _text("model", model)
        outcome = await probe(self.router, member, model)
        return {**msgspec.structs.asdict(outcome), "account": self._row(member.credential)}

    def explain(self, model: str, session: str = "", verb: str = "generateContent") -> Row:
        """Return where a request would go now, and why not elsewhere; raises GatewayError.

        ``session`` is a fingerprint as the log shows it, or what a client sends as X-Session-Id.
        """
        _text("model", model)
        _text("method", verb)
        resolved = self.router.catalog.resolve(model)
        known, bound = self._session(session, resolved)
        found = explain(self.router, model, known, verb)
        listed = {option.label for option in found}
        names = {member.credential.label: member.credential.name for member in self.router.members}
        options = [_option(option, names) for option in found]
        options += [_unable(one, verb, resolved) for one in self.router.members if one.credential.label not in listed]
        return {
            "model": model,
            "resolved": resolved,
            "verb": verb,
            "strategy": self.router.routing.strategy,
            "session": known,
            "session_on": "" if bound is None else bound.label,
            "options": options,
        }

    def _session(self, session: str, model: str) -> tuple[str, Credential | None]:
        """Return the fingerprint that is meant, and whom it is on."""
        if not session:
            return "", None
        now = self.router.clock.seconds()
        text = session.encode("utf-8", "surrogateescape")
        candidates = [session, *(fingerprint(key_id, text, b"") for key_id in self.key_ids)]
        for one in candidates:
            if (bound := self.router.sessions.get(one, model, now)) is not None:
                return one, bound
        return (session if _is_fingerprint(session) else candidates[1]), None

    async def _changed(self) -> None:
        # Whoever waits for a credential may have one now.
        self.router.chooser.waiting.offer()
        await self.save()

    def _member(self, upstream: str, name: str) -> Member:
        ours = [member for member in self.router.members if member.credential.upstream == upstream]
        for member in ours:
            if member.credential.name == name or member.credential.label == f"{upstream}/{name}":
                return member
        raise _unknown("CREDENTIAL_UNKNOWN", "credential", f"{upstream}/{name}", [one.credential.label for one in ours])

    def _row(self, credential: Credential) -> Row:
        now, wall = self.router.clock.seconds(), self.router.wall_seconds()
        standings = self.router.standings

        def at(monotonic: float | None) -> str | None:
            return None if monotonic is None else stamp(wall + monotonic - now)

        whole = standings.availability(credential, "", now)
        quarantine = standings.quarantined(credential)
        models = [
            {
                "model": model,
                "state": one.state.value,
                "reason": one.reason,
                "until": at(one.until),
                "next_try": at(one.free_at),
            }
            for model, one in sorted(standings.rests(credential, now).items())
            if _counts(one, now)
        ]
        states = {model["state"] for model in models}
        resting = next((state for state in ("cooling", "half-open") if state in states), State.OK.value)
        return {
            "name": credential.name,
            "upstream": credential.upstream,
            "kind": credential.kind,
            "label": credential.label,
            "project": credential.project,
            "in_file": (credential.upstream, credential.name) not in self.configured,
            "state": resting if whole.usable else whole.state.value,
            "reason": whole.reason,
            "link": quarantine.link if quarantine is not None else "",
            "since": stamp(quarantine.since_wall) if quarantine is not None and quarantine.since_wall else None,
            "models": models,
            "quota": [
                {"model": one.model, "remaining": one.remaining, "reset": one.reset_wall and stamp(one.reset_wall)}
                for one in self.router.chooser.quotas.figures(credential, now, wall)
            ],
            "last_used": at(standings.usage.last_used(credential)),
            "in_flight": standings.usage.load(credential)[0],
            **attrs.asdict(credential.terms),
        }


def stamp(wall: float) -> str:
    """Return Unix seconds as RFC 3339 has them, to the second; what lies beyond its years is their first or last."""
    seconds = round(min(max(wall, FIRST_SECOND), LAST_SECOND))
    return (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


def _text(what: str, name: str) -> None:
    """Refuse a name whose bytes are no text: no upstream has one, and no answer could tell it."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise GatewayError(
            400, "INVALID_ARGUMENT", "NAME_NOT_UTF8", f"The name of the {what} is not valid UTF-8: {name[:100]!a}."
        ) from None


def _counts(one: Availability, now: float) -> bool:
    """Say whether a rest is worth telling: one that is over is remembered for a while, but holds nobody up."""
    if one.state is State.COOLING:
        return True
    return one.state is State.HALF_OPEN and (not one.usable or (one.until is not None and one.until > now))


def _is_fingerprint(text: str) -> bool:
    return len(text) == 32 and all(letter in "0123456789abcdef" for letter in text)


def _option(option: Option, names: Mapping[str, str]) -> Row:
    return {**msgspec.structs.asdict(option), "name": names.get(option.label, "")}


def _unable(member: Member, verb: str, model: str) -> Row:
    reason = "MODEL_NOT_SERVED" if verb in member.upstream.verbs else "METHOD_NOT_ON_UPSTREAM"
    one = member.credential
    return _option(Option(one.label, one.upstream, "unable", reason, None, False), {one.label: one.name})


def _unknown(reason: str, what: str, name: str, known: Sequence[str]) -> GatewayError:
    there = ", ".join(known[:20]) or "none"
    return GatewayError(404, "NOT_FOUND", reason, f"There is no {what} {name[:100]!r}; there is: {there}.")
