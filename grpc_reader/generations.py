"""Whose turn it is: the recorder row names the one consumer run that may record (docs/adr/0006)."""

from collections.abc import Collection

from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.dialects.mysql import insert

from common.database import transaction
from grpc_reader.tables import RecorderRow

NOBODY = "nobody"
_ROW_ID = 1
_RECORDER = RecorderRow.__table__  # type: ignore[attr-defined]  # SQLModel does not declare it
_COLUMNS = _RECORDER.c


class SupersededError(Exception):
    """Another consumer has taken over; whatever is in hand comes to it, and must not be recorded here."""


def lock(connection: Connection, ours: Collection[str]) -> int:
    """The last position that was given, with the row locked until the transaction ends.

    SupersededError unless the row names one of `ours`: from then on until the end of the transaction nobody
    can take over.
    """
    statement = select(_COLUMNS.last_position, _COLUMNS.generation).where(_COLUMNS.id == _ROW_ID)
    position, generation = connection.execute(statement.with_for_update()).one()
    if generation not in ours:
        raise SupersededError("Another consumer records now.")
    return int(position)


def advance(connection: Connection, position: int) -> None:
    """Note the last position that was given; the caller holds the lock."""
    connection.execute(update(_RECORDER).where(_COLUMNS.id == _ROW_ID).values(last_position=position))


class Generations:
    """The generation in the recorder row: read it, and put another in its place."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def prepare(self) -> None:
        """Make sure that there is a row."""
        row = {"id": _ROW_ID, "last_position": 0, "generation": NOBODY}
        with transaction(self._engine) as connection:
            connection.execute(insert(_RECORDER).prefix_with("IGNORE").values(row))

    def current(self) -> str:
        """The generation that may record at this moment."""
        with transaction(self._engine) as connection:
            statement = select(_COLUMNS.generation).where(_COLUMNS.id == _ROW_ID)
            return str(connection.execute(statement).scalar_one())

    def register(self, generation: str, *, replacing: Collection[str] | None) -> bool:
        """Put `generation` into the row; once this has returned True, no other can record.

        With `replacing`, only if one of these stands there; False, and nothing is changed, otherwise.
        """
        statement = update(_RECORDER).where(_COLUMNS.id == _ROW_ID).values(generation=generation)
        if replacing is not None:
            statement = statement.where(_COLUMNS.generation.in_(replacing))
        with transaction(self._engine) as connection:
            return connection.execute(statement).rowcount == 1

    def resign(self, ours: Collection[str]) -> None:
        """Put nobody in the place of one of `ours`; ContendedError at once while somebody locks the row."""
        statement = select(_COLUMNS.generation).where(_COLUMNS.id == _ROW_ID).with_for_update(nowait=True)
        with transaction(self._engine) as connection:
            if connection.execute(statement).scalar_one() in ours:
                connection.execute(update(_RECORDER).where(_COLUMNS.id == _ROW_ID).values(generation=NOBODY))
