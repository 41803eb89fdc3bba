"""How a request would be routed now.  Changes nothing."""

from __future__ import annotations

from gateway.calls import Call, Journal, Option
from gateway.routing.attempts import Router
from gateway.routing.choosing import Run


def explain(router: Router, model: str, session: str = "", verb: str = "generateContent") -> list[Option]:
    """Return what every credential that may serve a request is to it now, the one it would go to marked.

    ``model`` is as a client writes it, ``session`` a fingerprint as the log shows it.  Raises GatewayError where no
    upstream is meant to serve it; see pool.candidates.
    """
    call = Call("", verb, router.catalog.resolve(model), model, b"", session)
    members, _ = router.chooser.admitted(router.members, call)
    now = router.clock.seconds()
    run = Run(call, Journal(""), members, now)
    found = router.chooser.look(run, router.catalog, router.strategy, now)
    return list(router.chooser.options(run, found, now))
