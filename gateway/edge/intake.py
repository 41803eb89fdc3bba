"""Take a request's body in: checked while it comes, and kept at little more than its size."""

from __future__ import annotations

from gateway.dialects.guard import FOLDED_FROM_BYTES, Guard, check
from gateway.edge.gathering import Gathering
from gateway.edge.storing import Spare
from gateway.folding import Folded

NO_BODY = Folded(b"")


class Intake:
    """Takes a body in one piece, as small ones come, or in several."""

    __slots__ = ("_gathering", "_guard", "_judges", "_length", "_spare", "_whole")

    def __init__(self, length: int | None, judges: bool, spare: Spare) -> None:
        """``length`` is what the head says of it, if anything; ``judges`` says whether it is to be JSON."""
        self._length = length
        self._judges = judges
        self._spare = spare
        self._whole = NO_BODY
        self._gathering: Gathering | None = None
        self._guard: Guard | None = None

    def add(self, data: bytes) -> None:
        """Take the next bytes; raises GuardError."""
        if len(data) == self._length and self._length <= FOLDED_FROM_BYTES:
            if self._judges:
                check(data)
            self._whole = Folded(data)
            return
        if self._gathering is None:
            self._gathering = Gathering(self._spare)
            if self._judges:
                self._guard = Guard(folded_from=0 if (self._length or 0) > FOLDED_FROM_BYTES else FOLDED_FROM_BYTES)
        self._gathering.add(data, () if self._guard is None else self._guard.feed(data))

    def end(self) -> None:
        """Check what only the end can show; raises GuardError."""
        if self._guard is not None:
            self._guard.end()

    def place(self, most: int) -> memoryview | None:
        """Return where the next bytes may be put at once, if there is such a place; see ``placed``."""
        return None if self._gathering is None else self._gathering.place(most)

    def placed(self, part: memoryview) -> bool:
        """Take the next bytes, which are in the place; False where they have to be added."""
        if self._gathering is None or self._guard is None or not self._guard.goes_on(part):
            return False
        self._gathering.placed(len(part))
        return True

    def take(self) -> Folded:
        """Return the whole, once; its folds are good until ``drop``, and as long as somebody has them."""
        if self._gathering is not None:
            return self._gathering.take()
        whole, self._whole = self._whole, NO_BODY
        return whole

    def drop(self) -> None:
        """Hold nothing any more."""
        self._whole = NO_BODY
        if self._gathering is not None:
            self._gathering.drop()
