"""Processes are killed under load, at every place that matters and anywhere, and all settles as if not."""

import random
import signal

import httpx
import pytest

from tests.faults.points import READER, RELAY
from tests.faults.trial import Trial
from tests.waiting import eventually


def kill_at(trial: Trial, service: str, point: str) -> None:
    """Under load, until the service is back; then until nothing is left to do."""
    before = trial.journal.changes
    with trial.under_load():
        trial.arm(f"kill {point} 5")
        trial.await_death(service)
        assert trial.reached(point)
        trial.restart(service)
    trial.settle()
    assert trial.journal.changes - before > 50, "that was no load"


@pytest.mark.parametrize("point", RELAY)
def test_relay_that_is_killed_loses_nothing_and_keeps_the_order(trial: Trial, point: str) -> None:
    kill_at(trial, "outbox_relay", point)
    assert trial.violations() == []


@pytest.mark.parametrize("point", READER)
def test_reader_that_is_killed_records_everything_once_and_in_order(trial: Trial, point: str) -> None:
    kill_at(trial, "grpc_reader", point)
    assert trial.violations() == []


def test_api_that_is_killed_between_commit_and_answer_has_made_the_change_whole(trial: Trial) -> None:
    trial.arm("kill api.after-commit 1")
    with trial.client() as client:
        change = client.create()
    assert change.outcome == "unknown"
    trial.await_death("api")
    trial.restart("api")
    trial.settle()
    evidence = trial.evidence()
    assert [event.what for event in evidence.record if event.title == change.title] == ["created"]
    assert trial.violations() == []


def test_client_of_an_api_that_was_killed_between_commit_and_answer_repeats_its_request_safely(
    trial: Trial,
) -> None:
    book = {"title": "asked for twice", "author": "Somebody", "publication_date": "2000-01-01"}
    headers = {"Idempotency-Key": "asked-for-twice"}
    with trial.system.client() as client:
        trial.arm("kill api.after-commit 1")
        with pytest.raises(httpx.TransportError):
            client.post("/v1/books", json=book, headers=headers)
        trial.await_death("api")
        trial.restart("api")
        answer = client.post("/v1/books", json=book, headers=headers)
    assert (answer.status_code, answer.headers["idempotent-replayed"]) == (201, "true")
    trial.settle()
    recorded = [event for event in trial.evidence().record if event.title == book["title"]]
    assert [(event.what, event.book_id) for event in recorded] == [("created", answer.json()["id"])]


def test_api_that_is_killed_under_load_has_made_each_change_whole_or_not_at_all(trial: Trial) -> None:
    kill_at(trial, "api", "api.after-commit")
    assert trial.violations() == []


def test_all_three_killed_again_and_again_at_any_instant_lose_nothing_and_keep_the_order(
    trial: Trial,
) -> None:
    with trial.under_load():
        for service in random.sample(["api", "outbox_relay", "grpc_reader"] * 2, 6):
            until = trial.journal.changes + random.randint(1, 60)  # noqa: S311  any instant will do
            eventually(lambda until=until: trial.journal.changes > until, because="clients go on")  # type: ignore[misc]
            trial.system.services[service].signal(signal.SIGKILL)
            trial.await_death(service)
            trial.restart(service)
    trial.settle()
    assert trial.violations() == []
