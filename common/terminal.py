"""Text of others on a terminal: one line stays one line, and nothing in it is obeyed."""

import re

# Control characters, which move cursors and end lines, the two separators that end lines as well, what makes
# the rest of a line run the other way (UAX #9, explicit formatting), and halves of surrogate pairs. Not
# all that is "not printable": joiners, direction marks and wide spaces belong to words and emoji.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str) -> str:
    """`text` with what a terminal would obey escaped as in JSON; JSON stays the same value."""
    return _OBEYED.sub(lambda found: _SHORT.get(found[0], f"\\u{ord(found[0]):04x}"), text)
