import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kombu import Connection

ANSWER_SECONDS = 5.0


@contextmanager
def cut_after(connection: Connection, seconds: float = ANSWER_SECONDS) -> Iterator[None]:
    """End the connection, whoever waits on it, if the block takes longer.

    A broker whose queue has no leader, after a crash or in a partition, does not answer what is asked of the
    queue, though its heartbeats keep coming: no time-out of a single read would end the wait.
    """
    timer = threading.Timer(seconds, _shut_down, [connection.connection.sock])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut_down(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        # Not TLS' own method, which would make the thread that reads go on in plaintext.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
