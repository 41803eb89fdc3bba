"""What the faces share, and a request as they see it.  Pure."""

from collections.abc import Callable

import attrs

from gateway.simulator.credentials import Desk
from gateway.simulator.models import Catalog
from gateway.simulator.protojson import Json
from gateway.simulator.quotas import Quotas
from gateway.simulator.reasons import Scene


@attrs.frozen
class Ask:
    """A request on its way to a face.

    ``credential`` is the API key, the account behind the bearer token, or the refresh token; ``now`` is Unix
    time; header names are lower-case.
    """

    face: str
    verb: str
    model: str
    credential: str
    method: str
    path: str
    version: str
    project: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    now: float

    @property
    def scene(self) -> Scene:
        """What an error body may quote of it."""
        known = attrs.evolve(Scene(), face=self.face, now=self.now)
        model = self.model or known.model
        return attrs.evolve(known, model=model, project=self.project or known.project)


@attrs.define(eq=False)
class State:
    """Everything that the backends remember."""

    catalog: Catalog
    chance: Callable[[], float]
    desk: Desk = attrs.Factory(Desk)
    quotas: Quotas = attrs.Factory(Quotas)
    operations: dict[str, tuple[int, Json]] = attrs.Factory(dict)
    onboarded: dict[str, str] = attrs.Factory(dict)
    services: dict[str, bytes] = attrs.Factory(dict)

    def word(self) -> str:
        """A new opaque id of 13 hexadecimal digits."""
        return f"{int(self.chance() * (1 << 52)):013x}"
