"""Services that the system gives few open files: they ask for what their connections want."""

from devstack.servers import free_port
from tests.fixtures.frames import ACK, PREFACE, SETTINGS, Line, frame, lines
from tests.fixtures.system_services import Service, Starter
from tests.fixtures.two_readers import StartReader
from tests.waiting import eventually

_FEWER = "fewer connections than asked for"
_TAKEN = frame(SETTINGS, ACK, 0)


def with_files(limits: str) -> tuple[str, ...]:
    return ("sh", "-c", f'{limits} && exec "$@"', "sh")


def is_answered(line: Line) -> bool:
    return b"alive" in line.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").received(5, b"alive")


def port_of(api: Service) -> int:
    return int(api.process.environment["API_PORT"])


def is_taken(line: Line) -> bool:
    return _TAKEN in line.send(PREFACE + frame(SETTINGS, 0, 0)).received(5, _TAKEN)


def test_reader_takes_more_connections_than_a_soft_limit_has_files_for(start_reader: StartReader) -> None:
    port = free_port()
    reader = start_reader(within=with_files("ulimit -Sn 256"), GRPC_PORT=str(port))
    with lines(port, 400) as connections:
        assert all(is_taken(each) for each in connections)
        assert reader.readiness()[0] == 200
    assert not reader.said(_FEWER)


def test_reader_under_a_hard_limit_takes_fewer_connections_and_all_else_has_its_files(
    start_reader: StartReader,
) -> None:
    port = free_port()
    reader = start_reader(within=with_files("ulimit -n 300"), GRPC_PORT=str(port))
    assert reader.said(_FEWER) == 1
    with lines(port, 100) as connections, lines(port, 300) as beyond:
        assert all(is_taken(each) for each in connections)
        assert not any(is_taken(each) for each in beyond)
        assert reader.readiness()[0] == 200


def test_api_takes_more_connections_than_a_soft_limit_has_files_for(start: Starter) -> None:
    api = start("api", within=with_files("ulimit -Sn 256"))
    eventually(lambda: api.ready)
    with lines(port_of(api), 400) as connections:
        assert all(is_answered(each) for each in connections)
        assert api.ready
    assert _FEWER not in api.log


def test_api_under_a_hard_limit_takes_fewer_connections_and_all_else_has_its_files(start: Starter) -> None:
    api = start("api", within=with_files("ulimit -n 300"))
    eventually(lambda: api.ready)
    assert api.log.count(_FEWER) == 1
    with lines(port_of(api), 300) as connections:
        # Each makes room for the next, so that the newest hundred are there.
        assert all(is_answered(each) for each in connections[-100:])
        assert not any(is_answered(each) for each in connections[:200])
        assert api.ready
