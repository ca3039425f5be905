import httpx
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from prometheus_client.parser import text_string_to_metric_families

from common.database import thread_engine
from grpc_reader.client import Client
from outbox_relay.outbox import read_backlog
from tests.e2e.rest_calls import RestCalls
from tests.fixtures.schema import database_settings
from tests.fixtures.system import System


def counted(client: httpx.Client, port: str, **labels: str) -> float:
    """The sum of a service's counters of events that carry these labels."""
    text = client.get(f"http://127.0.0.1:{port}/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.endswith("_events_total") and labels.items() <= sample.labels.items()
    )


# Green it takes seconds; red it takes the five minutes that Hypothesis has for finding the shortest sequence.
@pytest.mark.timeout(400)
def test_any_sequence_of_calls_is_answered_as_the_model_says_and_recorded_as_it_happened(
    system: System, module_database_url: str
) -> None:
    engine = thread_engine(database_settings(module_database_url))
    ports = system.environment

    def at_rest() -> bool:
        """Nothing waits in the outbox, and all that the broker has confirmed went through the reader."""
        if read_backlog(engine).rows:
            return False
        sent = counted(rest, ports["RELAY_HEALTH_PORT"], outcome="confirmed")
        return sent == counted(rest, ports["READER_HEALTH_PORT"])

    address = f"127.0.0.1:{ports['GRPC_PORT']}"
    with system.client() as rest, Client(address, rest.headers["Authorization"].split()[1]) as grpc:
        run_state_machine_as_test(
            lambda: RestCalls(rest, grpc, at_rest),  # type: ignore[arg-type]  # any factory is taken
            settings=settings(
                max_examples=25, stateful_step_count=20, deadline=None, report_multiple_bugs=False
            ),
        )
    engine.dispose()
