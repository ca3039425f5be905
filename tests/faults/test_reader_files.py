"""A reader that the system gives few open files: it asks for what its connections want."""

from devstack.servers import free_port
from tests.fixtures.frames import ACK, PREFACE, SETTINGS, Line, frame, lines
from tests.fixtures.two_readers import StartReader

_FEWER = "fewer connections than asked for"
_TAKEN = frame(SETTINGS, ACK, 0)


def with_files(limits: str) -> tuple[str, ...]:
    return ("sh", "-c", f'{limits} && exec "$@"', "sh")


def is_taken(line: Line) -> bool:
    return _TAKEN in line.send(PREFACE + frame(SETTINGS, 0, 0)).received(5, _TAKEN)


def test_more_connections_are_taken_than_a_soft_limit_has_files_for(start_reader: StartReader) -> None:
    port = free_port()
    reader = start_reader(within=with_files("ulimit -Sn 256"), GRPC_PORT=str(port))
    with lines(port, 400) as connections:
        assert all(is_taken(each) for each in connections)
        assert reader.readiness()[0] == 200
    assert not reader.said(_FEWER)


def test_under_a_hard_limit_there_are_fewer_connections_and_all_else_has_its_files(
    start_reader: StartReader,
) -> None:
    port = free_port()
    reader = start_reader(within=with_files("ulimit -n 300"), GRPC_PORT=str(port))
    assert reader.said(_FEWER) == 1
    with lines(port, 100) as connections, lines(port, 300) as beyond:
        assert all(is_taken(each) for each in connections)
        assert not any(is_taken(each) for each in beyond)
        assert reader.readiness()[0] == 200
