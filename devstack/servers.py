"""What the three servers have in common: processes, a port, an address, a way to tell that they answer."""

import os
import secrets
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from devstack.process import Process

_PATIENCE_SECONDS = 60
# Below what Linux gives to clients (ip_local_port_range begins at 32768).
_PORTS = (15_000, 32_000)
_PORT_MAX = 65_535
_given: set[int] = set()


@dataclass(frozen=True)
class TlsFiles:
    """With them a server speaks TLS only, and asks its clients for certificates of the same CA.

    `certificate` and `key` are shown by the server, and by whoever asks whether it answers.
    """

    ca: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """What the asking client needs."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.certificate, self.key)
        return context


class SetupError(Exception):
    """Something that the user must mend; the message is one sentence that says how."""


@dataclass(frozen=True)
class Server:
    """One server of the stack. `probe` raises while it does not answer as its clients need it to.

    An external one has no processes, and a `variable` that names it.
    """

    name: str
    title: str
    port: int
    url: str
    processes: tuple[Process, ...]
    probe: Callable[[], None]
    variable: str = ""

    def start(self, heed: Callable[[], None] = lambda: None) -> None:
        """Start it and return once it answers; SetupError names the log, or the variable, when it does not.

        What `heed` raises ends the wait.
        """
        for process in self.processes:
            process.start()
        if self.variable:
            advice = f": start it, or unset {self.variable} for a private one"
            await_answer(
                f"{self.name} of {self.variable} ({self.title})", self.probe, heed=heed, advice=advice
            )
        else:
            await_answer(self.name, self.probe, self.processes, heed)

    def stop(self) -> None:
        """Stop it, the last process first."""
        for process in reversed(self.processes):
            process.stop()


def await_answer(
    name: str,
    probe: Callable[[], None],
    processes: tuple[Process, ...] = (),
    heed: Callable[[], None] = lambda: None,
    advice: str = "",
) -> None:
    """Return once `probe` does not raise any more; what `heed` raises goes through.

    The SetupError that says that it still raises, or that one of the processes has ended, ends with `advice`,
    or else with the log.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        heed()
        try:
            probe()
        except Exception as error:
            ended = [process for process in processes if not process.running]
            if ended or time.monotonic() > deadline:
                where = advice or f"; see {(*ended, *processes)[0].log}"
                raise SetupError(f"The {name} does not answer ({error}){where}.") from error
            time.sleep(0.1)
        else:
            return


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at the moment, and that nobody is given as a client's own.

    Whoever calls again and again on a port of that other range, while its server is down, is connected with
    itself in the end, and the server finds its port taken.
    """
    while True:
        # Not from `random`, which tests seed: two suites at once would choose the same.
        port = _PORTS[0] + secrets.randbelow(_PORTS[1] - _PORTS[0])
        if port in _given:  # whoever has got it may not listen on it yet
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


def port_from_environment(variable: str, default: int) -> int:
    """A free port to listen on: that of the variable, or the default; SetupError otherwise."""
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= _PORT_MAX:
        raise SetupError(f"{variable} must be a port, 1 to {_PORT_MAX}, not {text!r}.")
    require_free(int(text), variable)
    return int(text)


def require_free(port: int, variable: str) -> None:
    """SetupError when somebody listens on the port already, or when this user may not."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError as error:
            raise SetupError(
                f"Port {port} is for root alone: set {variable} to a free port above 1023."
            ) from error
        except OSError as error:
            raise SetupError(
                f"Port {port} is in use: stop what listens there, or set {variable} to a free port."
            ) from error
