import socket
import struct

SLOWEST = 4096
"""Bytes a second."""
# `tcpi_bytes_acked` of Linux's struct tcp_info (include/uapi/linux/tcp.h).
_INFO_BYTES = 128
_ACKNOWLEDGED = struct.Struct("@120xQ")


class GoneError(Exception):
    """The connection has ended."""


class ReadingPace:
    """How far a client is behind the slowest that may read what it is sent.

    What its system has acknowledged is counted: our own buffer says nothing until a third of the system's is
    free, which a slow client takes minutes for.
    """

    def __init__(self, connection: socket.socket | None, now: float) -> None:
        """Begin now; without a `connection` it has gone, as TLS tells of one that has. GoneError then."""
        self._connection = connection
        self._looked_at = now
        self._lag_seconds = 0.0
        self._taken = self._acknowledged()

    def lag_seconds(self, now: float) -> float:
        """It grows by a second in each in which nothing is read; `now` is never less than the last time.

        GoneError when the connection has ended.
        """
        taken = self._acknowledged()
        ahead = (taken - self._taken) / SLOWEST
        self._lag_seconds = max(0.0, self._lag_seconds + now - self._looked_at - ahead)
        self._looked_at, self._taken = now, taken
        return self._lag_seconds

    def _acknowledged(self) -> int:
        # Before TLS is told that a connection is lost, there is none, or one without a descriptor.
        if self._connection is None or self._connection.fileno() < 0:
            raise GoneError
        try:
            info = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        except OSError:
            raise GoneError from None
        (found,) = _ACKNOWLEDGED.unpack(info)
        return int(found)
