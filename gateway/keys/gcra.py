"""The generic cell rate algorithm: how much of something may come in a period, exactly.  Pure.

ITU-T I.371 has it as the virtual scheduling algorithm.  One number is kept, the theoretical arrival time: when all
that came so far would have come, had it come evenly.  A whole period's worth may come at once; after that as much as
the rate lets free.  All is whole numbers: times are nanoseconds, and the number kept is in nanoseconds times the
limit, so that nothing is rounded, whatever the limit is.
"""

from __future__ import annotations

import msgspec

NANOSECONDS = 10**9


class Gcra(msgspec.Struct):
    """``limit`` units in ``period`` nanoseconds; both above zero."""

    limit: int
    period: int
    arrival: int = 0
    """The theoretical arrival time of the next unit, in nanoseconds times ``limit``."""

    def admits(self, now: int) -> bool:
        """Say whether one more unit conforms at ``now``, in nanoseconds."""
        due = now * self.limit
        return self.arrival <= due or self.arrival - due <= (self.limit - 1) * self.period

    def passes(self, now: int) -> bool:
        """Take one unit where it conforms, and say whether it did."""
        due, arrival = now * self.limit, self.arrival
        if arrival <= due:
            self.arrival = due + self.period
        elif arrival - due <= (self.limit - 1) * self.period:
            self.arrival = arrival + self.period
        else:
            return False
        return True

    def take(self, now: int, units: int = 1) -> None:
        """Count units that came, whether they conform or not: what is too much is a debt that time pays off."""
        due = now * self.limit
        if due > self.arrival:
            self.arrival = due
        self.arrival += units * self.period

    def wait(self, now: int) -> int:
        """Return in how many nanoseconds one more unit conforms; 0 where it does now."""
        over = self.arrival - now * self.limit - (self.limit - 1) * self.period
        return max(0, -(-over // self.limit))

    def used(self, now: int) -> int:
        """Return how many units count at ``now``, those begun in full; more than ``limit`` where there is a debt."""
        return max(0, -((now * self.limit - self.arrival) // self.period))

    def left(self, now: int) -> int:
        """Return how many units would conform at ``now``."""
        return max(0, self.limit - self.used(now))

    def refitted(self, limit: int, now: int) -> Gcra:
        """Return it with another limit, and with what counts at ``now`` counted still."""
        made = Gcra(limit, self.period)
        made.take(now, min(self.used(now), limit))
        return made
