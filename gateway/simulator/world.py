"""The simulator as one object: what it knows, and the tree and site that speak for it."""

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource

from gateway.simulator import oauth
from gateway.simulator.actions import Base
from gateway.simulator.credentials import TokenOrder
from gateway.simulator.models import MODELS, Catalog, Model
from gateway.simulator.protojson import Json
from gateway.simulator.quotas import Quota
from gateway.simulator.record import Entry, Records
from gateway.simulator.rules import Match, Rule, Rules
from gateway.simulator.state import State
from gateway.simulator.steps import Framing

if TYPE_CHECKING:
    from twisted.web.server import Site


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``--script`` loads: the bodies that the control route takes, in lists."""

    faults: list[Rule] = []
    quotas: list[Quota] = []
    tokens: list[TokenOrder] = []


class Simulator:
    """A stand-in for generativelanguage.googleapis.com, v1internal, Vertex AI and the OAuth endpoints.

    ``clock`` is the reactor or a ``task.Clock``; its seconds are taken for Unix time.  ``chance`` gives numbers
    in [0, 1), for ids and for faults with a probability.  ``pace_seconds`` lie between two events of a stream;
    0 sends them at once.  ``keep_requests`` and ``keep_body_bytes`` bound the record.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        chance: Callable[[], float] | None = None,
        pace_seconds: float = 0.03,
        models: tuple[Model, ...] = MODELS,
        framing: Framing | None = None,
        keep_requests: int = 1000,
        keep_body_bytes: int = 65_536,
    ) -> None:
        self.clock = clock
        self.chance = chance or random.SystemRandom().random
        self.pace_seconds = pace_seconds
        self.models = models
        self.framing = framing or Framing()
        self.records = Records(keep_requests, keep_body_bytes)
        self.rules = Rules(self.chance)
        self.state = State(Catalog(models), self.chance)
        self._resource: IResource | None = None

    def resource(self) -> IResource:
        """The tree.  Importing Klein installs a reactor, so it is imported here and not before."""
        if self._resource is None:
            from gateway.simulator.routes import tree

            self._resource = tree(self)
        return self._resource

    def site(self) -> "Site":
        """A site to listen with; only a site can give ``early`` answers."""
        from gateway.simulator.site import SimulatorSite

        return SimulatorSite(self)

    def fault(self, do: Base | list[Base], **rule: Any) -> int:
        """Set a fault: ``fault(Status(code=503), times=1, match=Match(face="aistudio"))``; its number."""
        return self.add(Rule(do=do, **rule))  # type: ignore[arg-type]

    def add(self, rule: Rule | Mapping[str, Any]) -> int:
        """Set a fault from a rule or its JSON form; raises msgspec.ValidationError for a wrong one."""
        return self.rules.add(_made(rule, Rule), self.clock.seconds())

    def clear_faults(self) -> int:
        """Remove all faults; how many there were."""
        return self.rules.remove()

    def quota(self, quota: Quota | Mapping[str, Any]) -> None:
        """Set a quota."""
        self.state.quotas.set(_made(quota, Quota))

    def tokens(self, order: TokenOrder | Mapping[str, Any]) -> dict[str, object]:
        """Revoke, restore, expire or issue tokens, or say how they are issued."""
        return self.state.desk.order(_made(order, TokenOrder), self.clock.seconds())

    def access_token(self, account: str) -> str:
        """A good access token for an account, without a grant."""
        return self.state.desk.issue(account, self.clock.seconds())

    def service_account(self, email: str, project: str, token_url: str) -> Json:
        """The key file of a new service account that may use the JWT grant."""
        return oauth.service_account(self.state, email, project, token_url)

    def requests(self, face: str = "*", verb: str = "*") -> list[Entry]:
        """The recorded requests, the oldest first."""
        return [e for e in self.records.entries if face in ("*", e.face) and verb in ("*", e.verb)]

    def load(self, script: Script | Mapping[str, Any]) -> None:
        """Set all that a script says."""
        script = _made(script, Script)
        for rule in script.faults:
            self.add(rule)
        for quota in script.quotas:
            self.quota(quota)
        for order in script.tokens:
            self.tokens(order)

    def reset(self) -> None:
        """Forget all: faults, quotas, tokens, requests.  Answers on their way go on."""
        self.rules.remove()
        self.records.clear()
        self.state = State(Catalog(self.models), self.chance)

    def report(self) -> Json:
        """Counts of the present state, as the control route shows them."""
        desk = self.state.desk
        now = self.clock.seconds()
        return {
            "now": now,
            "open_requests": len(self.records.open),
            "open_streams": sum(1 for e in self.records.open.values() if e.verb == "streamGenerateContent"),
            "requests": self.records.number,
            "requests_by_credential": self.records.counts,
            "produced": {model: tokens.report() for model, tokens in self.records.produced.items()},
            "tokens_issued": len(desk.issued),
            "tokens_valid": sum(1 for known in desk.issued.values() if known.ends > now),
            "refresh_calls": sum(desk.refreshes.values()),
            "refresh_calls_by_account": desk.refreshes,
            "revoked": sorted(desk.revoked),
            "expires_in": desk.expires_in,
            "rotate": desk.rotate,
            "faults": len(self.rules.standing),
            "quotas": self.state.quotas.report(),
        }


T = TypeVar("T")


def _made(given: "T | Mapping[str, Any]", kind: type[T]) -> T:
    return given if isinstance(given, kind) else msgspec.convert(given, kind)


__all__ = ["Match", "Rule", "Script", "Simulator"]
