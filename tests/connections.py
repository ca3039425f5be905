from kombu import Connection

from common.broker import broker_connection
from common.settings import BrokerSettings


def quiet_connection(settings: BrokerSettings, name: str) -> Connection:
    """A connection to the broker for tests, which send no heartbeats while they wait for something else."""
    connection = broker_connection(settings, name)
    connection.heartbeat = 600
    return connection
