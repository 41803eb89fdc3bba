"""Read a request into an Ask: which face and verb, which credential."""

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

import attrs
import msgspec
from twisted.web.server import Request

from gateway.simulator import aistudio, codeassist, oauth
from gateway.simulator.credentials import bearer
from gateway.simulator.state import Ask

if TYPE_CHECKING:
    from gateway.simulator.world import Simulator


@attrs.frozen
class Place:
    """What a path names."""

    face: str
    verb: str
    model: str = ""
    version: str = ""
    project: str = ""


_VERSION = r"(?P<version>v1beta|v1alpha|v1)"
_CALL = r"(?P<model>.+):(?P<verb>[A-Za-z]+)"

#: Path patterns with the face they belong to and, where the path does not say it, the verb.
PLACES: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern), face, verb)
    for pattern, face, verb in (
        (rf"/{_VERSION}/models", "aistudio", "models.list"),
        (rf"/{_VERSION}/models/{_CALL}", "aistudio", ""),
        (rf"/{_VERSION}/models/(?P<model>[^:]+)", "aistudio", "models.get"),
        (
            r"/(?P<version>v1|v1beta1)/projects/(?P<project>[^/]+)/locations/[^/]+"
            rf"/publishers/google/models/{_CALL}",
            "vertex",
            "",
        ),
        (r"/(?P<version>v1internal):(?P<verb>[A-Za-z]+)", "codeassist", ""),
        (r"/(?P<version>v1internal)/(?P<model>operations/.+)", "codeassist", "operations.get"),
        (r"/token", "oauth", "token"),
        (r"/o/oauth2/v2/auth", "oauth", "auth"),
        (r"/oauth2/v2/userinfo", "oauth", "userinfo"),
    )
)


def located(path: str) -> Place | None:
    """The face and verb that a path names, or None."""
    path = unquote(path)
    for pattern, face, verb in PLACES:
        found = pattern.fullmatch(path)
        if found:
            named = found.groupdict()
            return Place(face, verb or named.pop("verb"), **{k: v for k, v in named.items() if k != "verb"})
    return None


def ask_of(simulator: "Simulator", request: Request, place: Place, body: bytes) -> Ask:
    """The request as the faces see it."""
    path, _, query_text = request.uri.decode("latin-1").partition("?")
    query = dict(parse_qsl(query_text, keep_blank_values=True))
    headers = {
        name.decode("latin-1").lower(): values[-1].decode("latin-1")
        for name, values in request.requestHeaders.getAllRawHeaders()
    }
    desk = simulator.state.desk
    credential = aistudio.key_of(query, headers) or desk.account_of(bearer(headers))
    model, project = place.model, place.project
    if place.face == "codeassist" and not model and body:
        model, project = _named(body)
    if place.face == "oauth" and place.verb == "token":
        credential = oauth.credential_of(oauth.form_of(body), simulator.state)
    return Ask(
        face=place.face,
        verb=place.verb,
        model=model,
        credential=credential,
        method=request.method.decode("latin-1"),
        path=path,
        version=place.version,
        project=project,
        query=query,
        headers=headers,
        body=body,
        now=simulator.clock.seconds(),
    )


def _named(body: bytes) -> tuple[str, str]:
    """Model and project of an envelope, as far as it can be read; the face itself refuses what cannot."""
    try:
        envelope = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ""
    return codeassist.model_of(envelope), codeassist.project_of(envelope)
