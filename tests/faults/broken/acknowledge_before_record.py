"""The reader acknowledges a batch when it has it, and records it then."""

from grpc_reader.intake import Delivery, Intake


class _Acknowledged:
    """The channel as the rest of the code may use it: all is acknowledged already."""

    def basic_ack(self, *_: object, **__: object) -> None:
        pass


def install() -> None:
    record = Intake._record  # noqa: SLF001  what is broken here

    def acknowledge_and_record(self: Intake, batch: list[Delivery]) -> bool:
        channel = self._channel
        channel.basic_ack(batch[-1].tag, multiple=True)
        # Answered by the broker, which then has seen the acknowledgement too.
        channel.basic_qos(0, 500, False)  # noqa: FBT003  py-amqp's order of arguments
        self._channel = _Acknowledged()
        try:
            return record(self, batch)
        finally:
            self._channel = channel

    Intake._record = acknowledge_and_record  # type: ignore[method-assign]  # noqa: SLF001
