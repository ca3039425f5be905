"""TLS on every connection: both sides verify, nobody falls back to plaintext (docs/adr/0020).

Files are PEM. A certificate and key that are renewed on disk are used for the next connection; files that are
not right at that moment, such as one that is half written, are left, and the old ones stay in use. A CA that
is replaced needs a restart.
"""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import StartError

MINIMUM_VERSION = ssl.TLSVersion.TLSv1_2
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """What one side shows for itself: a certificate, with those between it and its CA, and its key."""

    prefix: str
    certificate: Path
    key: Path

    @classmethod
    def of(cls, prefix: str, certificate: Path | None, key: Path | None) -> "Identity | None":
        """Both files or neither; StartError when one is missing."""
        if certificate and key:
            return cls(prefix, certificate, key)
        if certificate or key:
            given, missing = ("CERTIFICATE", "KEY") if certificate else ("KEY", "CERTIFICATE")
            raise StartError(f"{prefix}_{given} is of no use alone: set {prefix}_{missing}, too.")
        return None

    @property
    def stamp(self) -> tuple[tuple[int, int], ...]:
        """Another one when a file has been replaced; OSError when one is gone."""
        states = (path.stat() for path in (self.certificate, self.key))
        return tuple((state.st_mtime_ns, state.st_ino) for state in states)

    def load(self, context: ssl.SSLContext) -> None:
        """Give it to a context; StartError, which names the variable, when the files are not right."""
        _readable(f"{self.prefix}_CERTIFICATE", self.certificate)
        _readable(f"{self.prefix}_KEY", self.key)
        try:
            # Without a password OpenSSL would ask the terminal for that of an encrypted key.
            context.load_cert_chain(self.certificate, self.key, password="")
        except (ssl.SSLError, ValueError) as error:
            if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
                raise StartError(
                    f"{self.prefix}_KEY: {self.key} is not the key of {self.prefix}_CERTIFICATE"
                    f" ({self.certificate}): set the two that belong together."
                ) from None
            raise StartError(
                f"{self.prefix}_CERTIFICATE and {self.prefix}_KEY ({self.certificate}, {self.key}) must be a"
                " certificate and its key without a password, each in PEM."
            ) from None


@dataclass(frozen=True)
class ClientTls:
    """How connections to one server are made: trusting `ca`, or else the system's CAs, alone.

    The server must have a certificate of theirs for the very name that it is called by.
    """

    prefix: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def given(self) -> bool:
        """Whether any of its variables is set."""
        return bool(self.ca or self.certificate or self.key)

    def context(self) -> ssl.SSLContext:
        """What makes connections; StartError when a file is not right."""
        context = _Context(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = MINIMUM_VERSION
        _trust(context, f"{self.prefix}_CA", self.ca)
        context.show(Identity.of(self.prefix, self.certificate, self.key))
        return context

    def require(self, url_variable: str, *, encrypted: bool, scheme: str) -> None:
        """StartError when a file is not right, or is given for an address that means plaintext."""
        if not self.given:
            return
        if not encrypted:
            raise StartError(
                f"{url_variable} means plaintext, though {self.prefix}_… is set:"
                f" begin it with {scheme}://, or unset {self.prefix}_CA, _CERTIFICATE and _KEY."
            )
        self.context()

    def amqp_options(self, server_name: str) -> dict[str, Any]:
        """The same for py-amqp, which makes a context of its own for each connection."""
        return {
            "ca_certs": self.ca and str(self.ca),
            "certfile": self.certificate and str(self.certificate),
            "keyfile": self.key and str(self.key),
            "cert_reqs": ssl.CERT_REQUIRED,
            "server_hostname": server_name,  # which makes it check the name
            "tls_minimum_version": MINIMUM_VERSION,
        }


# Of a client that decides by what is given.
PLAINTEXT = ClientTls("")


@dataclass(frozen=True)
class ServerTls:
    """How a server of ours listens: plaintext without a certificate; with `client_ca`, mutual TLS."""

    prefix: str
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None

    @property
    def identity(self) -> Identity | None:
        """None for plaintext; StartError when only a part is given."""
        found = Identity.of(self.prefix, self.certificate, self.key)
        if self.client_ca and found is None:
            raise StartError(
                f"{self.prefix}_CLIENT_CA is of no use alone: set {self.prefix}_CERTIFICATE and"
                f" {self.prefix}_KEY, too."
            )
        return found

    def context(self) -> ssl.SSLContext | None:
        """What takes connections; None for plaintext, StartError when a file is not right."""
        identity = self.identity
        if identity is None:
            return None
        context = _Context(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = MINIMUM_VERSION
        context.show(identity)
        if self.client_ca:
            _trust(context, f"{self.prefix}_CLIENT_CA", self.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def why_refused(error: BaseException) -> str:
    """Why the certificate of a server was refused, when that is behind the error; else nothing."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLCertVerificationError):
            return found.verify_message
        found = found.__cause__ or found.__context__
    return ""


class _Context(ssl.SSLContext):
    """Looks, before each handshake, whether its certificate was renewed."""

    _identity: Identity | None = None
    _stamp: tuple[tuple[int, int], ...] = ()

    def show(self, identity: Identity | None) -> None:
        """Show this to the other side from now on."""
        if identity is not None:
            identity.load(self)
            self._identity, self._stamp = identity, identity.stamp

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:  # noqa: ANN401  as inherited
        """A connection of a thread."""
        self._renew()
        return super().wrap_socket(*arguments, **options)

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:  # noqa: ANN401  as inherited
        """A connection of an event loop."""
        self._renew()
        return super().wrap_bio(*arguments, **options)

    def _renew(self) -> None:
        if self._identity is None:
            return
        try:
            stamp = self._identity.stamp
            if stamp == self._stamp:
                return
            # Tried elsewhere first: a failure would leave this context without a key.
            self._identity.load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._identity.load(self)
        except (StartError, OSError) as error:
            _LOG.warning("certificate not renewed", extra={"reason": str(error)})
            return
        self._stamp = stamp
        _LOG.info("certificate renewed", extra={"certificate": str(self._identity.certificate)})


def _readable(variable: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise StartError(f"{variable}: cannot read {path} ({error.strerror}).") from None


def _trust(context: ssl.SSLContext, variable: str, ca: Path | None) -> None:
    if ca is None:
        context.load_default_certs()
        return
    _readable(variable, ca)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError:
        raise StartError(f"{variable}: {ca} must be certificates of CAs in PEM.") from None
