"""Find the Google projects of accounts that come without one: in the background, one account at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from gateway.accounts.oauth import TokenRevoked, TokenUnavailable
from gateway.accounts.onboarding import OnboardingError, discover
from gateway.accounts.tokens import Send, TokenSource
from gateway.calls import Credential

EVERY_SECONDS = 1800.0
RETRY_SECONDS = 60.0
"""After a failure that may pass: doubled each time, up to EVERY_SECONDS."""
JITTER = 0.1

_log = Logger()


async def project_of(
    tokens: TokenSource, send: Send, bases: Sequence[str], operator_project: str, clock: IReactorTime, user_agent: str
) -> str:
    """Return the project of the account that ``tokens`` are of; raises OnboardingError."""
    try:
        token = await tokens.get()
    except TokenRevoked as error:
        raise OnboardingError(f"{error}; sign it in again.") from None
    except TokenUnavailable as error:
        raise OnboardingError(f"{error}.", transient=True) from None
    last = OnboardingError("no base URL is configured.")
    for base in bases:
        try:
            return await discover(send, base, token, operator_project, clock, user_agent=user_agent)
        except OnboardingError as error:
            last = error
            if not error.transient:
                break
    raise last


@attrs.define(eq=False, repr=False)
class _Wanted:
    due: float
    failures: int = 0
    told: str = ""


@attrs.define(eq=False, repr=False)
class Finder:
    """Asks for each wanted credential's project until it is found.

    A failure is told once; it is told again when it becomes another.
    """

    _clock: IReactorTime
    _chance: Callable[[], float]
    _ask: Callable[[Credential], Awaitable[str]]
    """Raises OnboardingError."""
    _found: Callable[[Credential, str], None]
    _missing: Callable[[Credential, OnboardingError], None]
    _wanted: dict[Credential, _Wanted] = attrs.field(factory=dict)
    _started: bool = False
    _running: Deferred[None] | None = None
    _timer: IDelayedCall | None = None

    def want(self, credentials: Iterable[Credential]) -> None:
        """Let these be the credentials without a project; new ones are asked for soon."""
        now = self._clock.seconds()
        self._wanted = {one: self._wanted.get(one) or _Wanted(now) for one in credentials}
        self._next()

    def hurry(self, credential: Credential) -> None:
        """Ask for a wanted credential's project at once: somebody may have mended what was missing."""
        if credential in self._wanted:
            self._wanted[credential] = _Wanted(self._clock.seconds())
            self._next()

    def start(self) -> None:
        """Begin to ask."""
        self._started = True
        self._next()

    def stop(self) -> None:
        """Ask no more; a question under way is dropped."""
        self._started = False
        self._rest()
        if self._running is not None:
            self._running.cancel()

    def _next(self) -> None:
        self._rest()
        if not self._started or self._running is not None or not self._wanted:
            return
        credential = min(self._wanted, key=lambda one: self._wanted[one].due)
        delay = self._wanted[credential].due - self._clock.seconds()
        # Never at once: who wants it may be in the middle of something.
        self._timer = self._clock.callLater(max(delay, 0.0), self._begin, credential)

    def _rest(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _begin(self, credential: Credential) -> None:
        self._timer = None
        # Set before it runs, because it may end before it returns.
        self._running = Deferred()
        running = Deferred.fromCoroutine(self._one(credential))
        if self._running is not None:
            self._running = running

    async def _one(self, credential: Credential) -> None:
        try:
            project = await self._ask(credential)
        except CancelledError:
            self._running = None
            return
        except OnboardingError as error:
            self._failed(credential, error)
        except Exception:
            _log.failure("looking for the project of account {credential} failed", credential=credential.label)
            self._failed(credential, OnboardingError("looking for it failed.", transient=True))
        else:
            if self._wanted.pop(credential, None) is not None:
                self._found(credential, project)
        self._running = None
        self._next()

    def _failed(self, credential: Credential, error: OnboardingError) -> None:
        wanted = self._wanted.get(credential)
        if wanted is None:
            return
        wanted.failures += 1
        seconds = EVERY_SECONDS
        if error.transient:
            seconds = min(RETRY_SECONDS * 2 ** min(wanted.failures - 1, 10), EVERY_SECONDS)
        wanted.due = self._clock.seconds() + seconds * (1 + JITTER * self._chance())
        if wanted.told != error.message:
            wanted.told = error.message
            self._missing(credential, error)
