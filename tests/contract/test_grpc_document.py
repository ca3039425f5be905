"""docs/grpc.md tells a client what the .proto files do not, and an operator finds every limit."""

import pytest

from common.errors import (
    ConditionRequiredError,
    KeyReusedError,
    OutcomeUnknownError,
    RequestInWorkError,
    StaleVersionError,
)
from grpc_reader.errors import ROWS
from grpc_reader.limits import GrpcLimits
from tests.fixtures.schema import ROOT

TEXT = (ROOT / "docs/grpc.md").read_text("utf-8")
OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")
# Nothing is changed over gRPC.
OF_WRITES = {
    ConditionRequiredError,
    KeyReusedError,
    OutcomeUnknownError,
    RequestInWorkError,
    StaleVersionError,
}


@pytest.mark.parametrize("kind", [kind for kind in ROWS if kind not in OF_WRITES])
def test_every_reason_stands_in_the_line_of_its_code(kind: type[Exception]) -> None:
    code, reason, _ = ROWS[kind]
    assert any(line.startswith(f"| {code.name} ") and f"`{reason}`" in line for line in TEXT.splitlines())


@pytest.mark.parametrize("name", GrpcLimits.model_fields)
def test_every_limit_is_shown_to_operators_with_its_default(name: str) -> None:
    assert f"| `{name.upper()}` | {GrpcLimits.model_fields[name].default} |" in OPERATIONS
