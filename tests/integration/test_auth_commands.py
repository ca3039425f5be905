"""`python -m api`: users, and how a serving process starts and ends."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.fixtures.api import PASSWORD, Api
from tests.fixtures.commands import assert_one_sentence, run
from tests.fixtures.schema import ROOT
from tests.fixtures.terminal import on_a_terminal
from tests.fixtures.wire import dead_wire
from tests.waiting import eventually


def test_an_added_user_can_log_in_with_the_scopes_given(api: Api, environment: dict[str, str]) -> None:
    words = ["user", "add", "ada.l_1-x", "--scope", "books:read", "--password-stdin"]
    done = run(environment, *words, text="a very long password\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "a very long password" not in done.stdout
    assert api.ask_token("ada.l_1-x", "a very long password").json()["scope"] == "books:read"


def test_a_user_has_all_scopes_when_none_is_named(api: Api, environment: dict[str, str]) -> None:
    assert run(environment, "user", "add", "grace", "--password-stdin", text=PASSWORD).returncode == 0
    assert api.login("grace")["scope"] == "books:read books:write outbox:admin"


def test_a_password_is_typed_twice_and_never_shown(api: Api, environment: dict[str, str]) -> None:
    with on_a_terminal(environment, "api", "user", "add", "hedy") as terminal:
        terminal.answer("Password: ", "a very long password")
        terminal.answer("Again: ", "a very long password")
        assert terminal.exit_code() == 0
    assert "Added the user hedy" in terminal.shown
    assert "a very long password" not in terminal.shown
    assert api.ask_token("hedy", "a very long password").status_code == 200


def test_two_passwords_that_differ_add_nobody(api: Api, environment: dict[str, str]) -> None:
    with on_a_terminal(environment, "api", "user", "add", "radia") as terminal:
        terminal.answer("Password: ", "a very long password")
        terminal.answer("Again: ", "a very long passwort")
        assert terminal.exit_code() == 2
    assert "The two passwords differ." in terminal.shown
    assert api.ask_token("radia", "a very long password").status_code == 400


def test_an_interrupted_command_ends_with_130_and_no_trace(environment: dict[str, str]) -> None:
    with on_a_terminal(environment, "api", "user", "add", "barbara") as terminal:
        terminal.await_prompt("Password: ")
        terminal.interrupt()
        assert terminal.exit_code() == 130
    assert "Traceback" not in terminal.shown


@pytest.mark.parametrize("url", ["", "mysql://u:secret@127.0.0.1:port/n", "sqlite://"])
def test_a_user_cannot_be_added_without_a_database(environment: dict[str, str], url: str) -> None:
    done = run(environment, "user", "add", "joan", "--password-stdin", text=PASSWORD, DATABASE_URL=url)
    assert_one_sentence(done, 1, "DATABASE_URL")
    assert "secret" not in done.stderr


def test_a_name_that_is_taken_is_exit_code_3_and_keeps_its_password(
    api: Api, environment: dict[str, str]
) -> None:
    done = run(environment, "user", "add", "writer", "--password-stdin", text="another password\n")
    assert_one_sentence(done, 3, "There is a user writer already.")
    assert api.ask_token().status_code == 200


@pytest.mark.parametrize("name", ["", "Ada", "a b", "x" * 65, "\u00e9"])
def test_a_name_that_will_not_do_is_refused(environment: dict[str, str], name: str) -> None:
    done = run(environment, "user", "add", name, "--password-stdin", text=PASSWORD)
    assert_one_sentence(done, 2, "A user name is")


@pytest.mark.parametrize("password", ["", "x" * 11, "x" * 129])
def test_a_password_that_will_not_do_is_refused(environment: dict[str, str], password: str) -> None:
    done = run(environment, "user", "add", "bob", "--password-stdin", text=password + "\n")
    assert_one_sentence(done, 2, "A password has 12 to 128 characters.")


@pytest.mark.parametrize("verb", ["add", "password"])
def test_without_a_terminal_the_way_to_send_a_password_is_named(
    environment: dict[str, str], verb: str
) -> None:
    # A session of its own has no terminal, wherever the tests run.
    done = subprocess.run(
        [sys.executable, "-m", "api", "user", verb, "writer"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        start_new_session=True,
    )
    assert_one_sentence(done, 2, "send it with --password-stdin")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_password_that_is_no_utf_8_is_called_so(environment: dict[str, str], locale: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api", "user", "add", "bob", "--password-stdin"],
        cwd=ROOT,
        env={**environment, "LC_ALL": locale},
        input=b"p\xe4ssword with accent\n",
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (2, b"The password is not UTF-8.\n")


def test_a_password_is_read_as_utf_8_in_any_locale(api: Api, environment: dict[str, str]) -> None:
    words = ["user", "add", "niklaus", "--password-stdin"]
    done = run({**environment, "PYTHONIOENCODING": "latin-1"}, *words, text="p\u00e4ssword with accent\n")
    assert done.returncode == 0, done.stderr
    assert api.ask_token("niklaus", "p\u00e4ssword with accent").status_code == 200


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SIGNING_KEY_LEAD": "5"}, "SIGNING_KEY_LEAD: must be a duration of ISO 8601, such as PT6M"),
        ({"SIGNING_KEYS_DIR": ""}, "SIGNING_KEYS_DIR: Field required"),
        ({"API_PORT": "70000"}, "API_PORT"),
        ({"DATABASE_URL": "sqlite://"}, "DATABASE_URL must look like"),
        ({"SIGNING_KEYS_DIR": "/dev/null/keys"}, "SIGNING_KEYS_DIR (/dev/null/keys) cannot be used"),
        ({"BIND_HOST": "192.0.2.1"}, "Cannot listen on 192.0.2.1"),
    ],
)
def test_serve_that_cannot_start_says_so_in_one_sentence(
    environment: dict[str, str], changes: dict[str, str], words: str
) -> None:
    assert_one_sentence(run(environment, "serve", **changes), 1, words)


def test_serve_on_a_port_in_use_says_so_in_one_sentence(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(environment, "serve", API_PORT=str(taken.getsockname()[1]))
    assert_one_sentence(done, 1, "Address already in use")


def is_served(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGTERM], [signal.SIGINT], [signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGINT]],
    ids=["SIGTERM", "SIGINT", "many"],
)
def test_a_signal_however_often_ends_the_process_with_0(
    environment: dict[str, str], signals: list[signal.Signals], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "api", "serve"], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
        try:
            eventually(lambda: is_served(f"http://127.0.0.1:{environment['API_PORT']}"))
            for number in signals:
                process.send_signal(number)
            assert process.wait(timeout=10) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()
    assert "Traceback" not in log.read_text()


def test_a_signal_while_it_waits_for_the_database_ends_the_process_with_0(
    environment: dict[str, str],
) -> None:
    with dead_wire() as nowhere:
        url = f"mysql://u:p@127.0.0.1:{nowhere.port}/n"
        process = subprocess.Popen(
            [sys.executable, "-m", "api", "serve"],
            cwd=ROOT,
            env={**environment, "DATABASE_URL": url},
            stderr=subprocess.PIPE,
        )
        eventually(lambda: nowhere.connections > 0, because="it asks for the database")
        process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=10)
    assert (process.returncode, complaints) == (0, b"")


@pytest.fixture
def user(api: Api, environment: dict[str, str], request: pytest.FixtureRequest) -> str:
    """A user of this test alone, with PASSWORD and all scopes."""
    name = f"u{abs(hash(request.node.name))}"
    assert run(environment, "user", "add", name, "--password-stdin", text=PASSWORD).returncode == 0
    return name


def refresh(api: Api, token: str) -> int:
    form = {"grant_type": "refresh_token", "refresh_token": token}
    return api.post("/v1/auth/token", form).status_code


def test_another_password_lets_in_where_the_old_one_did_and_ends_all_logins(
    api: Api, environment: dict[str, str], user: str
) -> None:
    logins = [api.login(user)["refresh_token"] for _ in range(2)]
    done = run(environment, "user", "password", user, "--password-stdin", text="quite another password\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert api.ask_token(user).status_code == 400
    assert api.ask_token(user, "quite another password").status_code == 200
    assert [refresh(api, token) for token in logins] == [400, 400]


def test_a_password_that_will_not_do_leaves_the_old_one(
    api: Api, environment: dict[str, str], user: str
) -> None:
    token = api.login(user)["refresh_token"]
    done = run(environment, "user", "password", user, "--password-stdin", text="short\n")
    assert_one_sentence(done, 2, "A password has 12 to 128 characters.")
    assert refresh(api, token) == 200
    assert api.ask_token(user).status_code == 200


def test_a_disabled_user_is_refused_like_a_stranger_until_enabled(
    api: Api, environment: dict[str, str], user: str
) -> None:
    token = api.login(user)["refresh_token"]
    assert run(environment, "user", "disable", user).returncode == 0
    refused = api.ask_token(user)
    assert refused.status_code == 400
    assert refused.json() == api.ask_token("nobody-at-all").json()
    assert refresh(api, token) == 400
    assert run(environment, "user", "enable", user).returncode == 0
    assert api.ask_token(user).status_code == 200
    assert refresh(api, token) == 400


def reads(api: Api, token: str) -> int:
    with api.client(token) as client:
        return client.get("/v1/books?limit=1").status_code


def test_a_scope_that_is_taken_away_ends_all_logins(api: Api, environment: dict[str, str], user: str) -> None:
    login = api.login(user)
    assert reads(api, login["access_token"]) == 200
    words = ["user", "scopes", user, "--scope", "books:read", "--scope", "books:read"]
    done = run(environment, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"The user {user} has books:read now, and all their logins are ended.\n"
    eventually(lambda: reads(api, login["access_token"]) == 401, because="processes look each second")
    assert refresh(api, login["refresh_token"]) == 400
    assert api.login(user)["scope"] == "books:read"


def test_a_scope_that_is_given_ends_no_login_and_holds_from_the_next_on(
    api: Api, environment: dict[str, str], user: str
) -> None:
    run(environment, "user", "scopes", user, "--scope", "books:read")
    login = api.login(user)
    done = run(environment, "user", "scopes", user, "--scope", "books:write", "--scope", "books:read")
    assert done.stdout == f"The user {user} has books:write, books:read from the next login on.\n"
    assert reads(api, login["access_token"]) == 200
    assert refresh(api, login["refresh_token"]) == 200
    assert api.login(user)["scope"] == "books:write books:read"


def test_signing_out_ends_the_logins_of_one_user_and_of_no_other(
    api: Api, environment: dict[str, str], user: str
) -> None:
    mine, others = [api.login(user)["refresh_token"] for _ in range(2)], api.login()["refresh_token"]
    assert run(environment, "user", "sign-out", user).returncode == 0
    assert [refresh(api, token) for token in mine] == [400, 400]
    assert refresh(api, others) == 200
    assert api.ask_token(user).status_code == 200


def test_users_are_listed_without_anything_secret(api: Api, environment: dict[str, str], user: str) -> None:
    run(environment, "user", "disable", user)
    done = run(environment, "user", "list")
    assert done.returncode == 0
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert lines[user] == ["disabled", "books:read", "books:write", "outbox:admin"]
    assert lines["reader"] == ["enabled", "books:read"]
    assert "argon2" not in done.stdout


@pytest.mark.parametrize("verb", ["password", "scopes", "disable", "enable", "sign-out"])
def test_a_user_who_is_not_there_is_named(environment: dict[str, str], verb: str) -> None:
    more = {"password": ["--password-stdin"], "scopes": ["--scope", "books:read"]}.get(verb, [])
    done = run(environment, "user", verb, "nobody", *more, text=PASSWORD)
    assert_one_sentence(done, 1, "There is no user nobody.")
