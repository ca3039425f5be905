"""One page: what was done, what was found, and a plot of it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from statistics import median

from tests.faults.checker import Violation
from tests.faults.evidence import Evidence
from tests.soak.timeline import Mark, Sample, Timeline

_WIDTH, _HEIGHT, _LEFT, _TOP = 960, 150, 60, 30


@dataclass(frozen=True)
class Run:
    """What a soak was, what the checker had to look at, and what it found."""

    seed: int
    minutes: float
    servers: str
    evidence: Evidence
    violations: Sequence[Violation]
    crashes: Sequence[str]


def write_report(folder: Path, run: Run, timeline: Timeline) -> Path:
    """Write `soak.md` and `soak.svg` into the folder; the path of the page."""
    (folder / "soak.svg").write_text(_plot(timeline.samples, timeline.marks), encoding="utf-8")
    page = folder / "soak.md"
    page.write_text(_page(run, timeline), encoding="utf-8")
    return page


def _page(run: Run, timeline: Timeline) -> str:
    outcomes = Counter(change.outcome for change in run.evidence.changes)
    by_name: dict[str, list[float]] = defaultdict(list)
    for mark in timeline.marks:
        by_name[mark.name].append(mark.recovery)
    faults = "\n".join(
        f"| {name} | {len(found)} | {median(found):.1f} | {max(found):.1f} |"
        for name, found in sorted(by_name.items())
    )
    violations = "\n".join(
        f"- {violation.kind.name}, book {violation.book_id}: {violation.sentence}"
        for violation in run.violations
    )
    crashes = "\n".join(f"- {crash}" for crash in run.crashes)
    repeats = len(run.evidence.wire) - len({event.id for event in run.evidence.wire})
    return f"""# Soak report

`make soak MINUTES={run.minutes:g} SEED={run.seed}` on {run.servers}.

| | |
| --- | --- |
| faults survived | {sum(mark.recovered for mark in timeline.marks)} |
| faults after which all was not well within a minute | {sum(not mark.recovered for mark in timeline.marks)} |
| changes acknowledged | {outcomes["acknowledged"]} |
| changes refused | {outcomes["refused"]} |
| changes with unknown outcome, each made whole or not at all | {outcomes["unknown"]} |
| events recorded | {len(run.evidence.record)} |
| repeats on the wire, each recognised by its id | {repeats} |
| reads compared with the record | {len(run.evidence.readings)} |
| violations | {len(run.violations)} |
| processes that ended by themselves, answers 500 | {len(run.crashes)} |

![Events recorded a second and backlog; faults are the bands](soak.svg)

Seconds from the end of a fault until all services were ready and nothing older than it waited:

| fault | times | median | longest |
| --- | --- | --- | --- |
{faults}

{violations or "No violation."}

{crashes or "Nothing crashed."}
"""


def _plot(samples: Sequence[Sample], marks: Iterable[Mark]) -> str:
    end = max((sample.second for sample in samples), default=1.0)
    rates = [
        (later.second, (later.recorded - earlier.recorded) / (later.second - earlier.second))
        for earlier, later in pairwise(samples)
    ]
    backlog = [(sample.second, float(sample.backlog)) for sample in samples]
    bands = "".join(
        f'<rect x="{_x(mark.begin, end):.1f}" y="{_TOP}"'
        f' width="{max(1.0, _x(mark.end, end) - _x(mark.begin, end)):.1f}" height="{2 * _HEIGHT + 40}"'
        f' fill="#d33" fill-opacity="0.15"><title>{escape(mark.name)}</title></rect>'
        for mark in marks
    )
    ticks = "".join(
        f'<text x="{_x(end * part / 6, end):.1f}" y="{_TOP + 2 * _HEIGHT + 60}" text-anchor="middle">'
        f"{end * part / 6 / 60:.1f} min</text>"
        for part in range(7)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + _LEFT + 20} {2 * _HEIGHT + 110}"'
        ' font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#fff"/>{bands}'
        + _curve("events recorded a second", rates, end, _TOP, "#06c")
        + _curve("backlog", backlog, end, _TOP + _HEIGHT + 40, "#a60")
        + f"{ticks}</svg>\n"
    )


def _curve(title: str, points: Sequence[tuple[float, float]], end: float, top: float, colour: str) -> str:
    highest = max((value for _, value in points), default=1.0) or 1.0
    path = " ".join(
        f"{_x(second, end):.1f},{top + _HEIGHT - value / highest * _HEIGHT:.1f}" for second, value in points
    )
    return (
        f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{top + _HEIGHT}" y2="{top + _HEIGHT}" stroke="#999"/>'
        f'<text x="{_LEFT - 6}" y="{top + 10}" text-anchor="end">{highest:,.0f}</text>'
        f'<text x="{_LEFT - 6}" y="{top + _HEIGHT}" text-anchor="end">0</text>'
        f'<text x="{_LEFT}" y="{top - 8}" fill="{colour}">{escape(title)}</text>'
        f'<polyline fill="none" stroke="{colour}" points="{path}"/>'
    )


def _x(second: float, end: float) -> float:
    return _LEFT + second / end * _WIDTH
