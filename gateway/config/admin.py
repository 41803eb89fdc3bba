"""The listeners of whoever watches the gateway, and the token that they ask for.  Opens nothing."""

from __future__ import annotations

from collections.abc import Callable

from gateway.config import listeners
from gateway.config.nodes import Node, optional
from gateway.config.values import AdminConfig, ProxyConfig

_PRIVATE_MODES = ("600", "0600")


def admin(
    node: Node,
    proxy: ProxyConfig,
    read_listen: Callable[[Node], tuple[str, ...]],
    read_token: Callable[[Node], tuple[bytes, ...]],
) -> AdminConfig:
    """Return the section; one that others could reach needs a token."""
    fields = node.fields("admin")
    default = AdminConfig()
    listen = default.listen
    if "listen" in fields:
        listen = () if fields["listen"].value in ("", False) else read_listen(fields["listen"])
    tokens = optional(fields, "token", read_token, default.tokens)
    for description in listen:
        if description in proxy.listen:
            raise fields.get("listen", node).error(
                f"{description} is where clients come in", "choose another port for this side"
            )
        if not tokens and not _is_private(description):
            raise fields.get("listen", node).error(
                f"the gateway refuses to start while {description} is open to others and there is no admin.token",
                "write admin.token, or listen on interface=127.0.0.1, or on unix:address:mode=600",
            )
    return AdminConfig(listen, tokens)


def _is_private(description: str) -> bool:
    found = listeners.parse(description)
    if found.kind == "unix":
        return listeners.parameters(description).get("mode") in _PRIVATE_MODES
    return found.loopback
