"""The pool at hand: that of the running daemon, or of the files where none runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from gateway.accounts.ledger import LedgerError
from gateway.accounts.statedir import SOCKET, InUse, StateDirectory
from gateway.accounts.store import StoreError
from gateway.calls import Attempt, Credential, Ended, GatewayError, Journal
from gateway.commands.adminclient import AdminClient, NotRunning, Refused
from gateway.config import Config, from_environment, load
from gateway.config.secrets import default_state_dir

if TYPE_CHECKING:
    from gateway.routing.oversight import Oversight

Row = dict[str, Any]

_WHICH = "name the gateway's file with --config FILE, or the state directory of one that runs with --state-dir DIR"


@attrs.frozen
class Place:
    """Which gateway is meant."""

    config: str = ""
    """The configuration file; empty for a gateway that runs from the environment."""
    state_dir: str = ""
    """Its state directory, where the configuration does not say."""

    def directory(self, environ: Mapping[str, str]) -> Path:
        """Return the state directory; raises ConfigError."""
        if self.state_dir:
            return Path(self.state_dir).absolute()
        if self.config:
            # The credentials may be out of this user's reach, and a running daemon has them.
            return Path(load(self.config, environ, with_upstreams=False).state_dir)
        return Path(default_state_dir(environ, "environment"))

    def read_without_upstreams(self, environ: Mapping[str, str]) -> Config:
        """Return the configuration but for upstreams and their secrets; raises ConfigError."""
        config = load(self.config, environ, with_upstreams=False) if self.config else Config()
        return attrs.evolve(config, state_dir=str(self.directory(environ)))

    def read(self, environ: Mapping[str, str]) -> Config:
        """Return the whole configuration; raises ConfigError."""
        config = load(self.config, environ) if self.config else from_environment(environ, _WHICH)
        return attrs.evolve(config, state_dir=str(self.directory(environ))) if self.state_dir else config


class Pool(Protocol):
    """What the commands do with it; each raises Refused."""

    async def accounts(self) -> list[Row]:
        """Return a row for each credential; see routing.oversight."""

    async def act(self, action: str, row: Row) -> tuple[Row, bool]:
        """Disable, enable or clear a credential."""

    async def resume(self, upstream: str) -> bool:
        """Let a halted upstream go on; say whether it stood still."""

    async def test(self, row: Row, model: str) -> Row:
        """Try a credential."""

    async def explain(self, model: str, session: str, verb: str) -> Row:
        """Return how a request would be routed."""


@attrs.frozen
class Running:
    """The pool of a daemon."""

    _client: AdminClient

    async def accounts(self) -> list[Row]:
        """Return a row for each credential."""
        rows: list[Row] = (await self._client.get("/v1/accounts"))["accounts"]
        return rows

    async def act(self, action: str, row: Row) -> tuple[Row, bool]:
        """Disable, enable or clear a credential."""
        answer = await self._client.post(f"/v1/accounts/{row['label']}/{action}")
        return answer["account"], answer["changed"]

    async def resume(self, upstream: str) -> bool:
        """Let a halted upstream go on."""
        return bool((await self._client.post(f"/v1/upstreams/{upstream}/resume"))["changed"])

    async def test(self, row: Row, model: str) -> Row:
        """Try a credential."""
        result: Row = await self._client.post(f"/v1/accounts/{row['label']}/test", {"model": model} if model else {})
        return result

    async def explain(self, model: str, session: str, verb: str) -> Row:
        """Return how a request would be routed."""
        query = {"model": model, "session": session, "verb": verb}
        result: Row = await self._client.get("/v1/explain", {name: value for name, value in query.items() if value})
        return result


@attrs.frozen
class AtRest:
    """The pool of a daemon that does not run: its configuration, its files, and what it kept."""

    _oversight: Oversight

    async def accounts(self) -> list[Row]:
        """Return a row for each credential."""
        return self._oversight.accounts()

    async def act(self, action: str, row: Row) -> tuple[Row, bool]:
        """Disable, enable or clear a credential."""
        with told():
            return await self._oversight.act(action, row["upstream"], row["name"])

    async def resume(self, upstream: str) -> bool:
        """Let a halted upstream go on."""
        with told():
            return await self._oversight.resume(upstream)

    async def test(self, row: Row, model: str) -> Row:
        """Try a credential."""
        with told():
            return await self._oversight.test(row["upstream"], row["name"], model)

    async def explain(self, model: str, session: str, verb: str) -> Row:
        """Return how a request would be routed."""
        with told():
            return self._oversight.explain(model, session, verb)


@contextmanager
def told() -> Iterator[None]:
    """Raise Refused with an error's message in place of a GatewayError."""
    try:
        yield
    except GatewayError as error:
        raise Refused(error.message) from None


@asynccontextmanager
async def pool(reactor: Any, place: Place, environ: Mapping[str, str]) -> AsyncIterator[tuple[Pool, bool]]:
    """Yield the pool, and whether it is a running daemon's.

    That of the files holds the state directory's lock, so that no daemon starts meanwhile.  Raises ConfigError, or
    Refused with a sentence for people.
    """
    async with reached(reactor, place, environ) as (state, client):
        if client is not None:
            yield Running(client), True
            return
        async with _at_rest(reactor, place.read(environ), state) as oversight:
            yield AtRest(oversight), False


@asynccontextmanager
async def reached(
    reactor: Any, place: Place, environ: Mapping[str, str]
) -> AsyncIterator[tuple[StateDirectory, AdminClient | None]]:
    """Yield the state directory, and what asks the daemon that runs on it, if one does; raises ConfigError."""
    state = StateDirectory(place.directory(environ))
    try:
        client = AdminClient(reactor, state)
        try:
            await client.get("/v1/status")
        except NotRunning:
            running = None
        else:
            running = client
        yield state, running
    finally:
        state.close()


def take(state: StateDirectory) -> None:
    """Lock a state directory, so that no daemon starts meanwhile; raises Refused."""
    try:
        state.open()
    except InUse:
        raise Refused(
            f"A gateway, or a command like this, uses {state.path}, and nobody answers at {SOCKET} there; try again,"
            " and if that does not help restart the gateway."
        ) from None
    except StoreError as error:
        raise Refused(str(error)) from None
    except OSError as error:
        raise Refused(f"{state.path} cannot be used: {error.strerror}") from None


@asynccontextmanager
async def _at_rest(reactor: Any, config: Config, state: StateDirectory) -> AsyncIterator[Oversight]:
    # What a whole gateway is made of: a running one is asked without it.
    from gateway.composition import Composition
    from gateway.upstreams.roads import Roads

    take(state)
    roads = Roads(reactor, config)
    try:
        composition = Composition(config, reactor, roads.wire, _Silent())
        composition.keeper.load()
    except (StoreError, LedgerError) as error:
        raise Refused(str(error)) from None
    except OSError as error:
        raise Refused(f"{error.filename or state.path} cannot be read: {error.strerror}") from None
    try:
        yield composition.oversight
    finally:
        await composition.members.close()
        await roads.close()
    if composition.keeper.failing:
        raise Refused(f"The change could not be kept in {state.path}; see to the disk, and to who may write there.")


class _Silent:
    """A recorder for a pool that serves nobody."""

    def attempted(self, journal: Journal, attempt: Attempt) -> None:
        """Nothing is attempted."""

    def ended(self, event: Ended) -> None:
        """Nothing ends."""

    def quarantined(self, credential: Credential, reason: str, link: str) -> None:
        """Nobody is."""

    def halted(self, upstream: str) -> None:
        """None is."""
