"""`/problems/…`: what the `type` of a problem leads to (RFC 9457, section 3.1.1)."""

import tomllib
from functools import partial
from html import escape
from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from api.auth.descriptions import REFUSAL_KINDS, TOO_MANY_GUESSES
from api.problems import ERRORS, OF_CONNECTIONS, STATUSES, Kind

_REFUSALS = (*REFUSAL_KINDS.values(), TOO_MANY_GUESSES)
KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (*ERRORS.values(), *STATUSES.values(), *OF_CONNECTIONS, *_REFUSALS)
}
_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HEADERS = {"Content-Security-Policy": _POLICY, "Cache-Control": "public, max-age=300"}


Explanations = dict[str, dict[str, str]]


def problem_pages() -> list[Route]:
    """`/problems`, which lists all kinds, and a page for each; open to everybody."""
    texts = explanations()
    pages = [Route(kind.type, partial(_one, kind, texts[kind.name])) for kind in KINDS.values()]
    return [Route("/problems", _all), *pages]


def explanations() -> Explanations:
    """`why` it happens and `what_to_do`, for each kind."""
    return tomllib.loads(Path(__file__).with_name("problem_explanations.toml").read_text("utf-8"))


async def _all(_: Request) -> Response:
    rows = "".join(
        f'<tr><td>{kind.status}</td><td><a href="{kind.type}">{escape(kind.name)}</a></td>'
        f"<td>{escape(kind.title)}</td></tr>"
        for kind in sorted(KINDS.values(), key=lambda kind: (kind.status, kind.name))
    )
    return _page("Problems", f"<table><tr><th>Status</th><th>Type</th><th>Title</th></tr>{rows}</table>")


async def _one(kind: Kind, text: dict[str, str], _: Request) -> Response:
    status = f"{kind.status} {HTTPStatus(kind.status).phrase}"
    content = (
        f"<p><code>{kind.type}</code> with status {escape(status)}</p>"
        f"<h2>Why</h2><p>{escape(text['why'])}</p>"
        f"<h2>What to do</h2><p>{escape(text['what_to_do'])}</p>"
        f"<h2>For example</h2><p><q>{escape(kind.example)}</q></p>"
        '<p><a href="/problems">All problems</a></p>'
    )
    return _page(kind.title, content)


def _page(title: str, content: str) -> Response:
    return HTMLResponse(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="stylesheet" href="/static/problems.css"></head>\n'
        f"<body><h1>{escape(title)}</h1>{content}</body></html>\n",
        headers=_HEADERS,
    )
