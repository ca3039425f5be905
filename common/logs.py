import json
import logging
import sys
from datetime import UTC, datetime

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NEEDS_QUOTES = frozenset(' "=\\')


def _quoted(value: object) -> str:
    text = value if isinstance(value, str) else str(value)
    if text and text.isprintable() and not _NEEDS_QUOTES & set(text):
        return text
    # What is not printable, line separators and terminals' control codes among it, is escaped.
    return json.dumps(text, ensure_ascii=not text.isprintable())


class LineFormatter(logging.Formatter):
    """One line a record: time (UTC), level, logger, the constant message, then the fields as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Fields come from `extra`; a traceback is one more field, so that a record never breaks the line."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6]
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        pairs = "".join(f" {name}={_quoted(value)}" for name, value in fields.items())
        return f"{when}Z {record.levelname:<7} {record.name}: {record.getMessage()}{pairs}"


def configure_logging(level: str) -> None:
    """All loggers of the process write lines to standard output; called once, by `__main__`."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # At DEBUG, Authlib writes down every token that it issues.
    for noisy in ("amqp", "authlib", "kombu", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
