import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import devstack.servers
import devstack.supervisor
from devstack.process import Process
from devstack.servers import Server, SetupError, free_port
from devstack.supervisor import Supervisor
from devstack.up import await_service
from tests.fixtures.schema import ROOT
from tests.waiting import eventually

# Each notes the ids of what would live on: itself and a child, or only the child that it leaves behind.
FAMILY = "echo $$ >>{notes}; sleep 1000 & echo $! >>{notes}; wait"
STUBBORN = "trap '' TERM; " + FAMILY
ORPHAN = "sleep 1000 & echo $! >>{notes}; exit 3"
# Notes when it began, in nanoseconds.
SHORT = "date +%s%N >>{notes}; exit 3"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    made = Supervisor()
    yield made
    made.stop()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """All that has been printed so far."""
    pieces: list[str] = []

    def read() -> str:
        pieces.append(capsys.readouterr().out)
        return "".join(pieces)

    return read


def shell(script: str, notes: Path, grace_seconds: float = 15, log: Path | None = None) -> Process:
    return Process("child", ["sh", "-c", script.format(notes=notes)], log=log, grace_seconds=grace_seconds)


def numbers(notes: Path) -> list[int]:
    return [int(word) for word in notes.read_text().split()] if notes.exists() else []


def noted(notes: Path, count: int) -> list[int]:
    return eventually(lambda: found if len(found := numbers(notes)) >= count else [])


def lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("script", "ended_by"), [(FAMILY, signal.SIGTERM), (STUBBORN, signal.SIGKILL)], ids=["polite", "stubborn"]
)
def test_stop_leaves_neither_the_child_nor_its_children(notes: Path, script: str, ended_by: int) -> None:
    process = shell(script, notes, grace_seconds=0.3)
    process.start()
    family = noted(notes, 2)
    process.stop()
    assert process.exit_code() == -ended_by
    eventually(lambda: not any(map(lives, family)))


def test_child_that_ended_by_itself_and_left_others_behind_takes_them_along(notes: Path) -> None:
    process = shell(ORPHAN, notes)
    process.start()
    [orphan] = noted(notes, 1)
    eventually(lambda: process.exit_code() == 3)
    assert lives(orphan)
    process.stop()
    eventually(lambda: not lives(orphan))


def test_child_ends_when_its_parent_is_killed(notes: Path) -> None:
    program = (
        "import threading; from devstack.process import Process;"
        f"Process('child', ['sh', '-c', {FAMILY.format(notes=notes)!r}]).start(); threading.Event().wait()"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as parent:
        child, grandchild = noted(notes, 2)
        parent.kill()
    eventually(lambda: not lives(child))
    # The kernel tells the child alone. A server of ours ends what it has started; a shell does not.
    psutil.Process(grandchild).kill()


def test_starting_a_child_runs_no_fork_handlers_which_crash_beside_other_threads() -> None:
    program = (
        "import os; from devstack.process import Process;"
        "os.register_at_fork(before=lambda: print('handlers run', flush=True));"
        "child = Process('child', ['echo', 'hello']); child.start(); print(child.output.read().decode())"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True)
    assert finished.stdout.split() == [b"hello"]


def test_child_has_what_its_environment_adds_and_its_log_has_what_it_says(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = Process("child", ["sh", "-c", "echo $GREETING; exit 7"], {"GREETING": "hello"}, log)
    process.stop()  # nothing was started: nothing happens
    assert process.exit_code() is None
    process.start()
    eventually(lambda: process.exit_code() == 7)
    process.signal(signal.SIGTERM)  # nothing is left: nothing happens
    process.stop()
    assert log.read_text() == "hello\n"


def test_what_dies_is_started_again_after_pauses_that_double(
    supervisor: Supervisor, notes: Path, said: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, process = [0.0], shell(SHORT, notes)
    monkeypatch.setattr(devstack.supervisor, "time", SimpleNamespace(monotonic=lambda: now[0]))
    supervisor.start(process)

    def pauses(seconds: float) -> bool:
        supervisor.look()
        return f"starts again in {seconds:g} s" in said()

    for seconds in (0.5, 1, 2):
        eventually(partial(pauses, seconds))
        pid = process.pid
        now[0] += seconds - 0.25
        supervisor.look()
        assert process.pid == pid, "its pause is not over"
        now[0] += 0.25
        supervisor.look()
        assert process.pid != pid
    lines = [line for line in said().splitlines() if "ended" in line]
    assert lines == [f"child ended (exit code 3), starts again in {pause} s" for pause in ("0.5", "1", "2")]


def test_pauses_have_a_limit_and_begin_anew_after_a_long_life(
    supervisor: Supervisor, notes: Path, said: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devstack.supervisor, "_LONGEST_PAUSE_SECONDS", 0.6)
    supervisor.start(shell(SHORT, notes))

    def said_again(text: str, times: int) -> bool:
        supervisor.look()
        return said().count(text) == times

    eventually(lambda: said_again("in 0.6 s", 2))
    monkeypatch.setattr(devstack.supervisor, "_WELL_SECONDS", 0)
    eventually(lambda: said_again("in 0.5 s", 2))


def test_what_a_dead_service_had_started_is_gone_before_it_starts_again(
    supervisor: Supervisor, notes: Path
) -> None:
    supervisor.start(shell(ORPHAN, notes))
    [orphan] = noted(notes, 1)

    def started_again() -> bool:
        supervisor.look()
        return len(numbers(notes)) == 2

    eventually(started_again)
    eventually(lambda: not lives(orphan))


def test_supervisor_stops_the_last_that_it_was_given_first_and_shows_what_services_say(
    supervisor: Supervisor, tmp_path: Path, notes: Path, said: Callable[[], str]
) -> None:
    order = "trap 'echo {number} >>{notes}; exit' TERM; echo ready {number}; while :; do sleep 0.01; done"
    for number in (1, 2, 3):
        supervisor.start(Process(f"child{number}", ["sh", "-c", order.format(number=number, notes=notes)]))
    eventually(lambda: all(f"child{number} | ready {number}\n" in said() for number in (1, 2, 3)))
    supervisor.stop()
    assert numbers(notes) == [3, 2, 1]


def test_service_that_ends_too_often_is_one_sentence_with_its_last_line(
    supervisor: Supervisor, notes: Path, said: Callable[[], str]
) -> None:
    supervisor.start(shell("echo begins; echo 'A variable is wrong.' >&2; " + SHORT, notes))
    sentence = r"^The service child ended 2 times in a row \(exit code 3\): A variable is wrong\.$"
    with pytest.raises(SetupError, match=sentence):
        eventually(lambda: supervisor.look(most_ends=2))
    assert len(numbers(notes)) == 2
    assert said().count("starts again") == 1


def test_server_that_ends_too_often_is_one_sentence_that_names_its_log(
    supervisor: Supervisor, tmp_path: Path, notes: Path
) -> None:
    log = tmp_path / "cache.log"
    server = Server("cache", "Cache", 1, "", (shell(SHORT, notes, log=log),), lambda: None)
    supervisor.watch(server)
    server.start()
    sentence = rf"^The child ended 1 times in a row \(exit code 3\); see {log}\.$"
    with pytest.raises(SetupError, match=sentence):
        eventually(lambda: supervisor.look(most_ends=1))


@pytest.mark.parametrize("script", [SHORT, FAMILY], ids=["ended", "silent"])
def test_server_that_does_not_answer_is_one_sentence_that_names_its_log(
    supervisor: Supervisor, tmp_path: Path, notes: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ConnectionRefusedError("nobody listens")

    monkeypatch.setattr(devstack.servers, "_PATIENCE_SECONDS", 60 if script is SHORT else 0.2)
    log = tmp_path / "cache.log"
    server = Server("cache", "Cache", 1, "", (shell(script, notes, log=log),), refuse)
    supervisor.watch(server)
    with pytest.raises(SetupError, match=rf"The cache does not answer \(nobody listens\); see {log}\."):
        server.start()


def test_service_that_does_not_answer_is_one_sentence_that_says_where_its_lines_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devstack.servers, "_PATIENCE_SECONDS", 0)
    sentence = r"^The service relay does not answer \(.+\); what it said stands above, behind `relay  \|`\.$"
    with pytest.raises(SetupError, match=sentence):
        await_service("relay", free_port(), lambda: None)
