from typing import Annotated

from pydantic import Field, PositiveInt

from common.settings import Settings

_IDLE_MILLISECONDS = 300_000
_HANDSHAKE_MILLISECONDS = 10_000
# Calls that the loop has not taken up yet. Above gRPC's own 1,000 it would cancel anybody's, at random.
_PENDING_CALLS = 20_000
# A client that has vanished without a word is noticed, and its streams ended, after the sum of both.
_PING_MILLISECONDS = 60_000
_PONG_MILLISECONDS = 60_000


class GrpcLimits(Settings):
    """How much the clients of one process may ask for at once; whatever is beyond is refused quickly.

    A message's and metadata's size are in bytes. `grpc_max_calls` are calls with one answer that are being
    done, `grpc_max_watchers` streams of events. `grpc_max_user_calls` and `grpc_max_user_watchers` are those
    of one user, each until its answers have been read or it is gone. `grpc_max_streams` are calls of any kind
    on one connection, and those beyond wait in the client. So many of a stranger's may be ahead of anybody's
    call, for calls are taken up in the order in which they come. A client may ping every `grpc_ping_seconds`,
    not more often.
    """

    grpc_max_message_bytes: PositiveInt = 65_536
    # With less no token would come through, and nobody be let in by a reader that starts.
    grpc_max_metadata_bytes: Annotated[int, Field(ge=4096)] = 16_384
    grpc_max_calls: PositiveInt = 200
    grpc_max_watchers: PositiveInt = 2_000
    grpc_max_user_calls: PositiveInt = 50
    grpc_max_user_watchers: PositiveInt = 500
    grpc_max_connections: PositiveInt = 2_500
    grpc_max_streams: PositiveInt = 1_200
    grpc_ping_seconds: PositiveInt = 10

    @property
    def options(self) -> list[tuple[str, int]]:
        """What gRPC itself keeps to, as arguments of a server."""
        return [
            ("grpc.max_receive_message_length", self.grpc_max_message_bytes),
            # Between the two, gRPC would refuse at random.
            ("grpc.max_metadata_size", self.grpc_max_metadata_bytes),
            ("grpc.absolute_max_metadata_size", self.grpc_max_metadata_bytes),
            ("grpc.max_allowed_incoming_connections", self.grpc_max_connections),
            ("grpc.max_concurrent_streams", self.grpc_max_streams),
            # Calls that were reset count until the loop is rid of them: gRPC's default, but an experiment.
            ("grpc.http.overload_protection", 1),
            ("grpc.server.max_pending_requests", _PENDING_CALLS),
            ("grpc.server.max_pending_requests_hard_limit", _PENDING_CALLS),
            ("grpc.max_connection_idle_ms", _IDLE_MILLISECONDS),
            ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MILLISECONDS),
            ("grpc.keepalive_time_ms", _PING_MILLISECONDS),
            ("grpc.keepalive_timeout_ms", _PONG_MILLISECONDS),
            # gRPC has both, and keeps to the longer one.
            ("grpc.http2.ping_timeout_ms", _PONG_MILLISECONDS),
            ("grpc.http2.min_ping_interval_without_data_ms", self.grpc_ping_seconds * 1000),
            # A watcher may have nothing to hear for hours, and a client between two calls nothing to say.
            ("grpc.keepalive_permit_without_calls", 1),
        ]
