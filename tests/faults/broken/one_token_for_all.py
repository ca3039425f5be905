"""Whoever misses a book leaves the same token in its place."""

from types import SimpleNamespace

from common import cache


def install() -> None:
    vars(cache)["secrets"] = SimpleNamespace(token_hex=lambda _: "0")
