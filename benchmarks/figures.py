"""What was measured, as values and as tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any, Self

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

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        """The findings of what `as_dict` gave, whatever else there is beside it."""
        return cls([Figure(**figure) for figure in kept["figures"]], [Cost(**cost) for cost in kept["costs"]])


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


def together(measurements: Sequence[Findings]) -> Findings:
    """What several measurements found, as one: medians, and the median ratio of all their runs.

    The notes are left out, except for how many measurements a figure is from and between what they lie.
    """
    figures: dict[str, list[Figure]] = {}
    costs: dict[str, list[Cost]] = {}
    for findings in measurements:
        for figure in findings.figures:
            figures.setdefault(figure.row, []).append(figure)
        for cost in findings.costs:
            costs.setdefault(cost.situation, []).append(cost)
    return Findings(
        [_together(same) for same in figures.values()],
        [middle(situation, [cost.us_per_job for cost in same]) for situation, same in costs.items()],
    )


def _together(same: Sequence[Figure]) -> Figure:
    first = same[0]
    besides = [figure.beside for figure in same if figure.beside is not None]
    ratios = sorted(figure.ratio for figure in same if figure.ratio is not None)
    runs = [run for figure in same for run in figure.runs]
    between = f": {ratios[0]:.2f} to {ratios[-1]:.2f}" if len(ratios) > 1 else ""
    return replace(
        first,
        hasty=median(figure.hasty for figure in same),
        beside=median(besides) if besides else None,
        ratio=median(runs) if ratios else None,
        note=f"{len(same)} measurement{'s' if len(same) > 1 else ''}{between}",
        runs=runs,
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
