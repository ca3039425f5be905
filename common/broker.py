import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from kombu import Connection, Exchange
from kombu.exceptions import OperationalError
from kombu.transport.pyamqp import Transport

from common.events import DOORBELL_EXCHANGE, EXCHANGE
from common.settings import BrokerSettings

# What the transport raises when a connection or channel is no good any more, or cannot be had.
BROKER_ERRORS: tuple[type[Exception], ...] = (
    *Transport.connection_errors,
    *Transport.channel_errors,
    OperationalError,
)
# Who says nothing for two of these is gone. A broker that is frozen is noticed within 14 seconds, for its
# clients look once a second; a client that is frozen is noticed by the broker within 18.
HEARTBEAT_SECONDS = 6
EVENTS = Exchange(EXCHANGE, type="topic", durable=True)
# Loses its rings with the broker, which is right: a ring is a hint, the fallback scan is the promise.
DOORBELL = Exchange(DOORBELL_EXCHANGE, type="fanout", durable=False, delivery_mode="transient")


def broker_connection(
    settings: BrokerSettings,
    name: str,
    *,
    on_blocked: Callable[[str], None] | None = None,
    on_unblocked: Callable[[], None] | None = None,
) -> Connection:
    """A connection that is not open yet, named `name` in the broker's list, with a heartbeat."""
    url = settings.broker_url.get_secret_value()
    options: dict[str, Any] = {
        "client_properties": {"connection_name": name},
        "read_timeout": 15,
        "write_timeout": 15,
    }
    if on_blocked and on_unblocked:
        options |= {"on_blocked": on_blocked, "on_unblocked": on_unblocked}
    parts = urlsplit(url)
    return Connection(
        url,
        heartbeat=HEARTBEAT_SECONDS,
        connect_timeout=3,
        transport_options=options,
        ssl=settings.broker_tls.amqp_options(parts.hostname or "") if parts.scheme == "amqps" else False,
    )


def has_unread(connection: Any) -> bool:  # noqa: ANN401  py-amqp has no types
    """Whether TLS holds bytes that it has taken off the socket: select() does not know of them."""
    return isinstance(connection.sock, ssl.SSLSocket) and connection.sock.pending() > 0
