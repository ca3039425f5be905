import pytest

from common.errors import StartError
from grpc_reader.limits import GrpcLimits


def test_too_little_for_a_token_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRPC_MAX_METADATA_BYTES", "4095")
    with pytest.raises(
        StartError, match=r"\(GRPC_MAX_METADATA_BYTES: .*equal to 4096\)\. See \.env\.example\.$"
    ):
        GrpcLimits.from_environment()
    monkeypatch.setenv("GRPC_MAX_METADATA_BYTES", "4096")
    assert GrpcLimits.from_environment().grpc_max_metadata_bytes == 4096
