"""An operator deletes the reader's queue with events in it, and brings them back (docs/operations.md)."""

from grpc_reader.topology import QUEUE
from tests.faults.trial import Trial
from tests.waiting import eventually


def waiting_events(trial: Trial) -> int:
    """What the reader's `/readyz` says of events that wait for a missing one."""
    found: int = trial.system.readiness("grpc_reader")[1].get("waiting", {}).get("events", 0)
    return found


def test_deleted_queue_leaves_gaps_that_the_reader_reports_and_a_replay_fills_once_and_in_order(
    trial: Trial,
) -> None:
    reader, channel = trial.system.services["grpc_reader"], trial.tap.connection.default_channel
    trial.sentinel()
    reader.stop()
    with trial.client() as client:
        books = [client.create().book_id for _ in range(10)]
        for book_id in books:
            assert book_id is not None
            client.change(book_id)
        eventually(lambda: trial.backlog() == 0)
        eventually(lambda: channel.queue_declare(QUEUE.name, passive=True).message_count == 20)
        channel.queue_delete(QUEUE.name)
        trial.restart("grpc_reader")
        changed = books[:5]
        for book_id in changed:
            assert book_id is not None
            client.change(book_id)
    eventually(lambda: waiting_events(trial) == len(changed), because="each waits for the two before it")
    log = reader.log
    assert log is not None
    eventually(lambda: log.read_text().count("gap begins") == len(changed))
    assert {violation.kind.name for violation in trial.violations()} == {"LOST"}

    replayed = trial.system.run("outbox_relay", "replay", "--all")
    assert replayed.returncode == 0, replayed.stderr
    trial.settle()
    eventually(lambda: waiting_events(trial) == 0)
    assert trial.violations() == []
