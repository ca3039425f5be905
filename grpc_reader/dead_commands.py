"""What operators ask of dead letters; each command prints what it found or did."""

import base64
import json
from typing import Any

from common.errors import StartError
from common.settings import BrokerSettings
from grpc_reader.dead_letters import DeadLetter, dead_letters


def list_dead(settings: BrokerSettings, limit: int, *, as_json: bool) -> None:
    """Print a line for each, the oldest first; the queue stays as it is."""
    with dead_letters(settings) as dead:
        total = dead.count()
        for number, letter in enumerate(dead.take()):
            if number == limit:
                break
            print(json.dumps(_facts(letter)) if as_json else _line(letter), flush=True)
    if total > limit and not as_json:
        print(f"… and {total - limit} more: --limit {total} shows them all")


def show_dead(settings: BrokerSettings, letter_id: str, *, as_json: bool) -> None:
    """Print all that is known of one, or of each if several have the id; the queue stays as it is."""
    found = False
    with dead_letters(settings) as dead:
        for letter in dead.take():
            if letter.id == letter_id:
                found = True
                print(json.dumps(_facts(letter) | _body(letter)) if as_json else _page(letter), flush=True)
    if not found:
        raise _unknown([letter_id])


def redrive_dead(settings: BrokerSettings, ids: list[str], *, as_json: bool) -> None:
    """Send those with these ids, or all, to the reader again; print each as soon as it is safe there."""
    missing = dict.fromkeys(ids)
    count = 0
    with dead_letters(settings) as dead:
        for letter in dead.redrive_chosen(lambda letter: not ids or letter.id in ids):
            missing.pop(letter.id, None)
            count += 1
            print(
                json.dumps({"redriven": letter.id}) if as_json else f"redriven {_clean(letter.id)}",
                flush=True,
            )
    if missing:
        raise _unknown(list(missing))
    if not as_json:
        print(f"redriven in all: {count}")


def _unknown(ids: list[str]) -> StartError:
    return StartError(f"No dead letter has the id {_clean(', '.join(ids))}: `dead list` shows them.")


def _line(letter: DeadLetter) -> str:
    return f"{_clean(letter.id)}  {_moment(letter)}  {_clean(letter.routing_key)}  {_clean(letter.reason)}"


def _page(letter: DeadLetter) -> str:
    facts = {
        "id": letter.id,
        "reason": letter.reason,
        "dead since": _moment(letter),
        "exchange": letter.exchange or "(default)",
        "routing key": letter.routing_key,
        "body": letter.body.decode(errors="backslashreplace"),
    }
    return "\n".join(f"{name + ':':<12} {_clean(value)}" for name, value in facts.items())


def _facts(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "reason": letter.reason,
        "died_at": None if letter.died_at is None else letter.died_at.isoformat(),
        "exchange": letter.exchange,
        "routing_key": letter.routing_key,
    }


def _body(letter: DeadLetter) -> dict[str, str]:
    try:
        return {"body": letter.body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(letter.body).decode()}


def _moment(letter: DeadLetter) -> str:
    return "-" if letter.died_at is None else letter.died_at.isoformat(" ", "seconds").removesuffix("+00:00")


def _clean(text: str) -> str:
    """Foreign text for a terminal: what is not printable, control codes among it, is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
