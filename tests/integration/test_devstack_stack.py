import os
import re
import socket
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import make_url

import devstack.servers
import devstack.stack
from devstack.folders import Folders
from devstack.servers import SetupError, free_port
from devstack.stack import ROOT, Stack, local_stack
from devstack.up import Ports
from tests.fixtures.servers import free_row_of_ports

PORTS = ("API_PORT", "RELAY_HEALTH_PORT", "READER_HEALTH_PORT", "GRPC_PORT")


@pytest.fixture
def external(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stack:
    """The environment of somebody who has servers already; state goes into a folder of the test."""
    monkeypatch.setattr(devstack.stack, "STATE", tmp_path)
    for variable, url in stack.environment.items():
        monkeypatch.setenv(variable, url)
    return stack


@pytest.mark.parametrize("variable", PORTS)
def test_port_of_a_service_that_is_taken_is_one_sentence_naming_its_variable(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for port in PORTS:
        monkeypatch.setenv(port, str(free_port()))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        monkeypatch.setenv(variable, str(taken))
        with pytest.raises(
            SetupError, match=rf"^Port {taken} is in use: .* set {variable} to a free port\.$"
        ):
            Ports.from_environment()


def test_port_that_is_for_root_alone_is_one_sentence_naming_its_variable() -> None:
    first_for_all = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first_for_all <= 1:
        pytest.skip("every user may listen on every port here")
    # The code is read first: the folder may be one that nobody else enters.
    program = (
        "import os; from devstack.servers import require_free;"
        "os.geteuid() or (os.setgroups([]), os.setgid(65534), os.setuid(65534));"
        f"require_free({first_for_all - 1}, 'API_PORT')"
    )
    # Nobody may write coverage data into the folder, either.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == (
        f"devstack.servers.SetupError: Port {first_for_all - 1} is for root alone:"
        " set API_PORT to a free port above 1023."
    )


@pytest.mark.parametrize(
    ("server", "above"), [("DATABASE", 0), ("BROKER", 0), ("BROKER", 1), ("BROKER", 2), ("CACHE", 0)]
)
def test_port_of_a_server_that_is_taken_is_one_sentence_naming_its_variable(
    external: Stack, monkeypatch: pytest.MonkeyPatch, server: str, above: int
) -> None:
    port = free_row_of_ports()
    monkeypatch.delenv(f"{server}_URL")
    monkeypatch.setenv(f"{server}_PORT", str(port))
    sentence = rf"^Port {port + above} is in use: .* set {server}_PORT.* to a free port\.$"
    with socket.create_server(("127.0.0.1", port + above)), pytest.raises(SetupError, match=sentence):
        local_stack()


def test_external_servers_are_used_and_neither_started_nor_stopped(external: Stack) -> None:
    found = local_stack()
    assert found.environment == external.environment
    assert [server.processes for server in found.servers] == [(), (), ()]
    assert [server.title.split()[0] for server in found.servers] == ["external"] * 3
    found.start()
    found.stop()
    for server in external.servers:
        server.probe()


def test_external_server_that_is_down_is_waited_for(external: Stack) -> None:
    cache = local_stack().cache
    in_vain = threading.Event()

    def probe() -> None:
        try:
            cache.probe()
        except Exception:
            in_vain.set()
            raise

    external.cache.stop()
    waiting = threading.Thread(target=replace(cache, probe=probe).start)
    waiting.start()
    try:
        assert in_vain.wait(10)
        assert waiting.is_alive()
    finally:
        external.cache.start()
        waiting.join(30)
    assert not waiting.is_alive()


def test_make_up_that_finds_its_own_addresses_in_the_terminal_starts_its_own_servers(
    external: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in external.environment:
        monkeypatch.delenv(variable)
    for server in ("DATABASE", "CACHE"):
        monkeypatch.setenv(f"{server}_PORT", str(free_port()))
    monkeypatch.setenv("BROKER_PORT", str(free_row_of_ports()))
    first = local_stack()
    for variable, url in first.environment.items():
        monkeypatch.setenv(variable, url)
    second = local_stack()
    assert [bool(server.processes) for server in second.servers] == [True] * 3
    assert second.environment == first.environment

    # The terminal's addresses are those of a run on another port.
    monkeypatch.setenv("CACHE_PORT", str(free_port()))
    assert local_stack().cache.processes
    # One server of somebody else beside two of ours.
    monkeypatch.setenv("CACHE_URL", external.cache_url)
    mixed = local_stack()
    assert [bool(server.processes) for server in mixed.servers] == [True, True, False]
    monkeypatch.setenv("CACHE_URL", mixed.cache_url)
    assert not local_stack().cache.processes


@pytest.mark.parametrize("name", ["database", "broker", "cache"])
def test_external_server_that_does_not_answer_is_one_sentence_naming_its_variable(
    external: Stack, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(devstack.servers, "_PATIENCE_SECONDS", 0)
    variable, port = f"{name.upper()}_URL", free_port()
    url = make_url(external.environment[variable]).set(port=port)
    monkeypatch.setenv(variable, url.render_as_string(hide_password=False))
    server = getattr(local_stack(), name)
    with pytest.raises(SetupError) as error:
        server.start()
    sentence = (
        rf"The {name} of {variable} \(external 127\.0\.0\.1:{port}\) does not answer \(.+\):"
        rf" start it, or unset {variable} for a private one\."
    )
    assert re.fullmatch(sentence, str(error.value))


@pytest.mark.parametrize("address", ["somewhere", "amqp://guest:guest@127.0.0.1:port/"])
def test_address_that_is_none_is_one_sentence_naming_its_variable(
    external: Stack, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("BROKER_URL", address)
    with pytest.raises(SetupError, match=r"^BROKER_URL must be .*\.$"):
        local_stack()


def test_passwords_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "state")
    first = folders.password("broker")
    assert folders.password("database") != first
    assert Folders(tmp_path / "state").password("broker") == first
    assert stat.S_IMODE((tmp_path / "state" / "passwords.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
