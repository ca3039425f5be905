from prometheus_client import CollectorRegistry, Counter, Gauge


class RelayMetrics:
    """What a relay counts, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter(
            "relay_events", "Events by the broker's answer.", ["outcome"], registry=self.registry
        )
        self.unknown = Counter(
            "relay_events_unknown", "Events in flight when a connection ended.", registry=self.registry
        )
        self.connects = Counter("relay_connects", "Broker connections made.", registry=self.registry)
        self.in_hand = Gauge("relay_events_in_hand", "Events read and not confirmed.", registry=self.registry)
        self.shards = Gauge("relay_shards", "Shards that this relay works on.", registry=self.registry)
        self.blocked = Gauge(
            "relay_blocked", "1 while the broker asks publishers to wait.", registry=self.registry
        )
        self.backlog = Gauge("relay_backlog", "Events that wait in the outbox.", registry=self.registry)
