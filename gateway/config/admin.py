"""The listeners of whoever watches or steers the gateway, and what they are let in with.  Opens nothing."""

from __future__ import annotations

from collections.abc import Callable

from gateway.config import listeners, passwords
from gateway.config.nodes import Node, optional
from gateway.config.values import AdminConfig, ProxyConfig

_PRIVATE_MODES = ("600", "0600")
TOKEN_LEAST = 16
"""A shorter admin.token could be guessed: a right one is let in however many wrong ones came before."""


def admin(
    node: Node,
    proxy: ProxyConfig,
    read_listen: Callable[[Node], tuple[str, ...]],
    read_token: Callable[[Node], tuple[bytes, ...]],
) -> AdminConfig:
    """Return the section; listeners that others could reach need a token or a password."""
    fields = node.fields("admin")
    default = AdminConfig()
    listen = default.listen
    if "listen" in fields:
        listen = () if fields["listen"].value in ("", False) else read_listen(fields["listen"])
    tokens = optional(fields, "token", read_token, default.tokens)
    if tokens and listen and len(fields["token"].text().strip()) < TOKEN_LEAST:
        node.context.warnings.append(
            f"admin.token has fewer than {TOKEN_LEAST} characters and could be guessed: write one that chance has made,"
            " as `openssl rand -hex 16` prints it"
        )
    password = optional(fields, "password", _password, default.password)
    for description in listen:
        if description in proxy.listen:
            raise fields.get("listen", node).error(
                f"{description} is where clients come in", "choose another port for this side"
            )
        if not tokens and not password and not _is_private(description):
            raise fields.get("listen", node).error(
                f"the gateway refuses to start while {description} is open to others and there is neither admin.token"
                " nor admin.password",
                "write one of them, or listen on interface=127.0.0.1, or on unix:address:mode=600",
            )
    private = all(map(_is_private, listen))
    dashboard = optional(fields, "dashboard", lambda one: _dashboard(one, private), private)
    in_clear = [description for description in listen if listeners.parse(description).clear]
    if dashboard and in_clear:
        node.context.warnings.append(
            f"{in_clear[0]} carries passwords and sessions in clear over the network: use ssl:, or a TLS proxy in front"
            " of a listener on interface=127.0.0.1"
        )
    return AdminConfig(
        listen,
        tokens,
        password,
        dashboard,
        optional(fields, "session_idle", Node.seconds, default.session_idle),
        optional(fields, "session_most", Node.seconds, default.session_most),
        not private,
    )


def _password(node: Node) -> str:
    text = node.text().strip()
    if text and not passwords.is_hash(text):
        raise node.error("this is no hash of a password", "write what `antigravity password` prints, in single quotes")
    return text


def _dashboard(node: Node, private: bool) -> bool:
    # YAML 1.1 reads bare `on` and `off` as true and false.
    if isinstance(node.value, bool):
        return node.value
    return {"auto": private, "on": True, "off": False}[node.choice(("auto", "on", "off"))]


def _is_private(description: str) -> bool:
    found = listeners.parse(description)
    if found.kind == "unix":
        return listeners.parameters(description).get("mode") in _PRIVATE_MODES
    return found.loopback
