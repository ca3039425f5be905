"""The places in the life of a relay and of a reader at which a death matters (common/fault_points.py)."""

RELAY = (
    "relay.before-claim",
    "relay.after-claim",
    "relay.after-publish",
    "relay.after-confirm",
    "relay.before-settle",
    "relay.inside-settle",
    "relay.after-settle",
)
READER = (
    "reader.before-record",
    "reader.inside-record",
    "reader.before-commit",
    "reader.after-record",
    "reader.after-acknowledge",
)
