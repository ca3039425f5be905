"""TLS for gRPC, which has an implementation of its own and takes the contents of files."""

import logging
import ssl

import grpc

from common.errors import StartError
from common.tls import ClientTls, Identity, ServerTls

_LOG = logging.getLogger(__name__)


def channel_credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    """For a client; gRPC takes nothing below TLS 1.2, and always verifies the name."""
    files = (tls.ca, tls.key, tls.certificate)
    return grpc.ssl_channel_credentials(*[path.read_bytes() if path else None for path in files])


def server_credentials(tls: ServerTls) -> grpc.ServerCredentials | None:
    """For the server, or None for plaintext; what is renewed on disk serves the next connection."""
    identity = tls.identity
    if identity is None:
        return None
    renewal = _Renewal(identity, tls.client_ca.read_bytes() if tls.client_ca else None)
    return grpc.dynamic_ssl_server_credentials(
        renewal.configuration(),
        renewal.fetch,  # type: ignore[arg-type]  # None is documented
        require_client_authentication=tls.client_ca is not None,
    )


class _Renewal:
    def __init__(self, identity: Identity, client_ca: bytes | None) -> None:
        self._identity = identity
        self._client_ca = client_ca
        self._stamp = identity.stamp

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """With what the files have now."""
        pair = (self._identity.key.read_bytes(), self._identity.certificate.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], self._client_ca)

    def fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """What gRPC asks for before each handshake; None goes on with what it has."""
        try:
            stamp = self._identity.stamp
            if stamp == self._stamp:
                return None
            self._identity.load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # are they right?
            renewed = self.configuration()
        except (StartError, OSError) as error:
            _LOG.warning("certificate not renewed", extra={"reason": str(error)})
            return None
        self._stamp = stamp
        _LOG.info("certificate renewed", extra={"certificate": str(self._identity.certificate)})
        return renewed
