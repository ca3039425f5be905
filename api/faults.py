"""Faults of the input in our own words, whoever finds them: the one table of what each kind is told as."""

from collections.abc import Mapping
from typing import Any

# By the types of pydantic's errors; what stands in braces is of their context.
_MESSAGES = {
    "missing": "is missing",
    "extra_forbidden": "is not a known field",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "string_type": "must be text",
    "string_unicode": "must not contain half of a surrogate pair",
    # All texts that have a shortest length have this one, when they are trimmed.
    "string_too_short": "must not be blank",
    "string_too_long": "must have at most {max_length} characters",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "is too large a number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be one of {expected}",
}


def message_of(fault: Mapping[str, Any]) -> str:
    """What is wrong with the value, such as "must not be blank": what our own checks say, or a row above."""
    if fault["type"] in _MESSAGES:
        return _MESSAGES[fault["type"]].format_map(fault.get("ctx", {}))
    return str(fault["msg"]).removeprefix("Value error, ")
