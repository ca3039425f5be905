from email.message import Message

_CHARSETS = frozenset({"utf-8", "us-ascii"})


def is_utf_8(content_type: str) -> bool:
    """Whether a Content-Type says, if anything, that the text is UTF-8, or ASCII, which is a part of it."""
    header = Message()
    header["Content-Type"] = content_type
    parameters = header.get_params(failobj=[])
    return all(name != "charset" or str(value).lower() in _CHARSETS for name, value in parameters)
