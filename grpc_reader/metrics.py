from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)


class ReaderMetrics:
    """The figures of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "reader_events",
            "Deliveries by what became of them: recorded, repeated, waiting or dead.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in ("recorded", "repeated", "waiting", "dead"):
            self.events.labels(outcome)
        self.record_latency = Histogram(
            "reader_record_latency_seconds",
            "From the change to its record.",
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.waiting_events = Gauge(
            "reader_waiting_events",
            "Events that wait for an earlier one of their book.",
            registry=self.registry,
        )
        self.waiting_oldest_seconds = Gauge(
            "reader_waiting_oldest_seconds",
            "For how long the oldest of them has been waiting; 0 if there is none.",
            registry=self.registry,
        )
        self.calls = Counter(
            "reader_grpc_calls", "gRPC calls that ended.", ["method", "code"], registry=self.registry
        )
