from contextvars import ContextVar

# Whose call the task at work answers; "" where nobody is asked for a token.
CALLER: ContextVar[str] = ContextVar("caller", default="")
