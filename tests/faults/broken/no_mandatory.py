"""The relay publishes without `mandatory`: the broker confirms what no queue wants, and drops it."""

from kombu import Connection

from outbox_relay.publisher import Publisher


def install() -> None:
    begin = Publisher.__init__

    def begin_carelessly(self: Publisher, connection: Connection) -> None:
        begin(self, connection)
        publish = self._channel.basic_publish
        self._channel.basic_publish = lambda *args, **options: publish(
            *args, **{**options, "mandatory": False}
        )

    Publisher.__init__ = begin_carelessly  # type: ignore[method-assign]
