from sqlalchemy import Connection
from sqlmodel import SQLModel

# The tables register themselves.
import api.tables
import grpc_reader.tables
import outbox_relay.tables
from alembic import context
from common.database import thread_engine
from common.settings import DatabaseSettings


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=SQLModel.metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


engine = thread_engine(DatabaseSettings(), read_timeout=3600)
with engine.connect() as connection:
    run(connection)
    connection.commit()
engine.dispose()
