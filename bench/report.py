"""Figures, what they are held against, and the table."""

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from processes import BenchError

MEMFS = "memfs"

ALONE = ("MB", "ms alone")

Task = Callable[[], Mapping[str, float]]


@dataclass
class Results:
    """All figures of one group: samples[variant][figure], and why a variant has none."""

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def median(self, variant: str, figure: str) -> float | None:
        values = self.samples.get(variant, {}).get(figure)
        return statistics.median(values) if values else None

    def spread(self, variant: str, figure: str) -> float:
        """The median absolute deviation: how far a run usually is from the median."""
        values = self.samples.get(variant, {}).get(figure) or [0.0]
        middle = statistics.median(values)
        return statistics.median([abs(value - middle) for value in values])


@dataclass(frozen=True)
class Row:
    """A line of the table: memfs, what it is held against, and the bar that the result has to stay under."""

    name: str
    against: str
    memfs: float | None
    reference: float | None
    unit: str  # of the result: "x" is memfs / reference, "ms" is memfs - reference, "MB" and "ms alone" are memfs alone
    bar: float | None
    noise: float  # of the result, from the spread of both
    problem: str | None

    @property
    def result(self) -> float | None:
        if self.memfs is None:
            return None
        if self.unit in ALONE:
            return self.memfs
        if self.reference is None:
            return None
        return self.memfs / self.reference if self.unit == "x" else self.memfs - self.reference

    @property
    def holds(self) -> str:
        if self.result is None:
            return "could not run"
        if self.bar is None:
            return ""
        if self.result <= self.bar:
            return "yes"
        return "within noise" if self.result - self.bar <= self.noise else "no"

    def cells(self) -> list[str]:
        plain = "{:.0f} MB" if self.unit == "MB" else "{:.0f} ms"
        result = {"x": "{:.2f} x", "ms": "{:+.0f} ms", "MB": "{:.0f} MB", "ms alone": plain}[self.unit]
        formats = zip((self.memfs, self.reference, self.result, self.bar), (plain, plain, result, result), strict=True)
        memfs, reference, value, bar = ("-" if number is None else text.format(number) for number, text in formats)
        bar = "" if self.bar is None else "<= " + bar
        return [self.name, memfs, reference, value, bar, self.holds, self.against]


def interleave(group: str, tasks: Mapping[str, Task], runs: int) -> Results:
    """Run the tasks in turn, beginning with another one each time; what fails once is left out from then on."""
    results = Results()
    names = list(tasks)
    for run in range(runs):
        print(f"{group}: run {run + 1} of {runs}", file=sys.stderr)
        first = run % len(names)
        for name in names[first:] + names[:first]:
            if name in results.problems:
                continue
            try:
                for figure, value in tasks[name]().items():
                    results.samples.setdefault(name, {}).setdefault(figure, []).append(value)
            except (BenchError, OSError) as e:
                results.problems[name] = str(e)
                results.samples.pop(name, None)
    return results


def compare(
    results: Results,
    name: str,
    figure: str,
    references: Sequence[str] = (),
    bar: float | None = None,
    unit: str = "x",
    ours: str = MEMFS,
) -> Row:
    """A figure of `ours` against the fastest of some references."""
    known = {v: median for v in references if (median := results.median(v, figure)) is not None}
    best = min(known, key=lambda v: known[v]) if known else next(iter(references), "")
    problem = results.problems.get(ours) or (None if known else results.problems.get(best))
    noise = results.spread(ours, figure) + results.spread(best, figure)
    if unit == "x" and known:
        noise /= known[best]
    return Row(name, best, results.median(ours, figure), known.get(best), unit, bar, noise, problem)


def columns(lines: Sequence[Sequence[str]], numbers: range) -> str:
    """Lines of cells under each other; the columns of numbers are flushed right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for cells in lines:
        padded = (
            cell.rjust(width) if index in numbers else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        text.append("  ".join(padded).rstrip())
    return "\n".join(text)


def table(rows: Sequence[Row]) -> str:
    header = ["measurement", "memfs", "reference", "result", "bar", "holds", "reference is"]
    return columns([header, *(row.cells() for row in rows)], range(1, 5))


def figures(groups: Mapping[str, Results]) -> str:
    """Every median, with the fastest and the slowest run."""
    lines = [["group", "variant", "figure", "median", "least", "most", "runs"]]
    for group, results in groups.items():
        for variant, samples in results.samples.items():
            for figure, values in samples.items():
                numbers = (statistics.median(values), min(values), max(values), len(values))
                lines.append([group, variant, figure, *(f"{number:.0f}" for number in numbers)])
    return columns(lines, range(3, 7))


def failures(groups: Mapping[str, Results]) -> list[str]:
    return [
        f"could not run: {group}, {variant}: {problem}"
        for group, results in groups.items()
        for variant, problem in results.problems.items()
    ]


def as_json(rows: Sequence[Row], groups: Mapping[str, Results]) -> dict[str, object]:
    return {
        "rows": [{**asdict(row), "result": row.result, "holds": row.holds} for row in rows],
        "groups": {group: asdict(results) for group, results in groups.items()},
    }
