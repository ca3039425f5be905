"""Slows who guesses passwords, and locks nobody out (docs/adr/0023).

Each wrong password is a debt of its user name and its address, of the name alone, and of the address alone. A
debt is paid off by time; whoever owes too much is asked to wait, whether the name is anybody's or not. What
strangers owe in a name counts for addresses only from which the user has never logged in: at home one waits
for what was done from there alone.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, func, select, text
from sqlalchemy.dialects.mysql import insert

from api.addresses import network_of
from api.tables import GuessDebtRow, KnownAddressRow

REMEMBERED = timedelta(days=90)
"""How long an address counts as one of a user's."""
_SEEN_AGAIN = timedelta(days=1)
_NOBODY = 0
_NAME = re.compile("[a-z0-9._-]{1,64}")
_DEBTS = GuessDebtRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it
_ADDRESSES = KnownAddressRow.__table__.c  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Allowance:
    """So many wrong passwords at once, and then one in each `pause`."""

    burst: int
    pause: timedelta


PAIR = Allowance(10, timedelta(seconds=30))
NAME = Allowance(50, timedelta(seconds=10))
ADDRESS = Allowance(50, timedelta(seconds=2))


@dataclass(frozen=True)
class Guesser:
    """Who tries to log in: a user name, as it was sent, and an address."""

    username: str
    address: str

    @classmethod
    def of(cls, username: str, host: str) -> "Guesser":
        """An IPv6 address stands for its network."""
        return cls(username, network_of(host))

    def allowances(self) -> dict[str, Allowance]:
        """What may be owed by each subject. A text that can be no name is nobody's, and owes nothing."""
        found = {f"a:{self.address}": ADDRESS}
        if _NAME.fullmatch(self.username):
            found |= {f"n:{self.username}": NAME, f"p:{self.username}@{self.address}": PAIR}
        return found


def seconds_to_wait(connection: Connection, guesser: Guesser, user_id: int | None) -> int:
    """0 for who may try now."""
    allowances = guesser.allowances()
    now = datetime.now(UTC)
    # Asked for a name that is nobody's, too: the time that it takes says nothing.
    seen_at = _seen_at(connection, guesser, _NOBODY if user_id is None else user_id)
    if seen_at is not None and seen_at > now - REMEMBERED:
        allowances.pop(f"n:{guesser.username}")
    statement = select(*_DEBTS).where(_DEBTS.subject.in_(sorted(allowances)))
    waits = [
        row.paid_at - now - (allowance.burst - 1) * allowance.pause
        for row in connection.execute(statement)
        for allowance in [allowances[row.subject]]
    ]
    longest = max(waits, default=timedelta(0))
    return max(0, -(-longest // timedelta(seconds=1)))


def owe(connection: Connection, guesser: Guesser) -> None:
    """Note a password that was not right; never commits.

    The caller commits at once, for until then others wait who guess for the same name or from there.
    """
    now = datetime.now(UTC)
    for subject, allowance in sorted(guesser.allowances().items()):
        pause = allowance.pause
        statement = insert(GuessDebtRow).values(subject=subject, paid_at=now + pause)
        # No more than would be asked for anyway: a debt is no punishment.
        most = now + allowance.burst * pause
        later = func.least(_DEBTS.paid_at + text(f"INTERVAL {pause.total_seconds():.0f} SECOND"), most)
        connection.execute(statement.on_duplicate_key_update(paid_at=func.greatest(later, now + pause)))


def forgive(connection: Connection, guesser: Guesser, user_id: int) -> None:
    """Note a password that was right: the address is the user's, and the two together owe nothing.

    What the address alone owes stays, or one's own account would pay for guesses at others'.
    """
    now = datetime.now(UTC)
    seen_at = _seen_at(connection, guesser, user_id)
    if seen_at is None or seen_at < now - _SEEN_AGAIN:
        statement = insert(KnownAddressRow).values(user_id=user_id, address=guesser.address, seen_at=now)
        connection.execute(statement.on_duplicate_key_update(seen_at=now))
    pair = f"p:{guesser.username}@{guesser.address}"
    if connection.execute(select(_DEBTS.subject).where(_DEBTS.subject == pair)).scalar():
        connection.execute(delete(GuessDebtRow).where(_DEBTS.subject == pair))


def _seen_at(connection: Connection, guesser: Guesser, user_id: int) -> datetime | None:
    """When the user has logged in from there last, to the day."""
    mine = (_ADDRESSES.user_id == user_id, _ADDRESSES.address == guesser.address)
    seen_at: datetime | None = connection.execute(select(_ADDRESSES.seen_at).where(*mine)).scalar()
    return seen_at
