"""What was measured, as values and as tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One line of the table: Hasty's value, what it is set against, and the ratio of the two."""

    row: str
    unit: str
    hasty: float
    beside: float | None = None
    ratio: float | None = None
    target: str = ""
    note: str = ""
    runs: Sequence[float] = ()  # the ratio of every run, or the value where there is no ratio


@dataclass(frozen=True)
class Cost:
    """Microseconds of CPU per job, by process, in one situation."""

    situation: str
    us_per_job: Mapping[str, float]


@dataclass
class Findings:
    """Everything that one call of the benchmark found."""

    figures: list[Figure] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """The findings as plain data."""
        return asdict(self)


def compared(
    row: str,
    unit: str,
    pairs: Sequence[tuple[float, float]],
    *,
    target: str = "",
    note: str = "",
) -> Figure:
    """A figure from `(beside, hasty)` pairs, each measured side by side: the median of the pairs' own ratios.

    A disturbance of the machine hits both of a pair, so their ratio is steadier than the ratio of two medians.
    """
    ratios = [hasty / beside for beside, hasty in pairs]
    return Figure(
        row=row,
        unit=unit,
        hasty=median(hasty for _, hasty in pairs),
        beside=median(beside for beside, _ in pairs),
        ratio=median(ratios),
        target=target,
        note=note,
        runs=ratios,
    )


def middle(situation: str, costs: Sequence[Mapping[str, float]]) -> Cost:
    """The median cost of every process over several runs."""
    return Cost(situation, {name: median(cost[name] for cost in costs) for name in costs[0]})


def show(console: Console, findings: Findings, caption: str) -> None:
    """Print the tables."""
    if findings.figures:
        console.print(_figures(findings.figures, caption))
    if findings.costs:
        console.print(_costs(findings.costs))


def _figures(figures: Iterable[Figure], caption: str) -> Table:
    table = Table(title="Hasty against its limit, and against itself", caption=caption)
    for heading, justify in (
        ("", "left"),
        ("unit", "left"),
        ("against", "right"),
        ("Hasty", "right"),
        ("ratio", "right"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    table.add_column("to reach")
    table.add_column("note", overflow="fold")
    for figure in figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        table.add_row(
            figure.row, figure.unit, _number(figure.beside), _number(figure.hasty), ratio, figure.target, figure.note
        )
    return table


def _costs(costs: Sequence[Cost]) -> Table:
    table = Table(title="CPU per job, microseconds")
    table.add_column("process")
    names: dict[str, None] = {}
    for cost in costs:
        table.add_column(cost.situation, justify="right")
        names.update(dict.fromkeys(cost.us_per_job))
    for name in names:
        table.add_row(name, *(_number(cost.us_per_job.get(name)) for cost in costs))
    table.add_row("all", *(_number(sum(cost.us_per_job.values())) for cost in costs))
    return table


def _number(value: float | None) -> str:
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2  # noqa: PLR2004 - three digits that say something
    return f"{value:,.{digits}f}"
