"""The results as markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.metrics import ratios_to
from bench.proxies import REFERENCES
from bench.runner import CaseResult


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table, aligned so that it reads well as plain text too; numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return (
            " | ".join(
                [f"| {first[0]:<{first[1]}}", *(f"{cell:>{width}}" for cell, width in others)]
            )
            + " |"
        )

    rule = [f"|{'-' * (widths[0] + 2)}", *(f"{'-' * (width + 1)}:" for width in widths[1:])]
    return "\n".join([line(header), "|".join(rule) + "|", *(line(row) for row in rows)])


def introduction(results: Mapping[str, Any]) -> str:
    """What was compared, and where."""
    machine = results["machine"]
    where = ", ".join([machine["time"], machine["cpu"], f"{machine['cores']} cores"])
    lines = [
        f"{where}, {machine['system']}",
        f"Medians of {results['rounds']} rounds of {results['seconds']} s",
        "",
        *(f"- {name} {version}" for name, version in results["versions"].items()),
        *(f"- {name}: skipped, {reason}" for name, reason in results["skipped"].items()),
    ]
    return "\n".join(lines)


def case_markdown(result: CaseResult, references: Sequence[str] = REFERENCES) -> str:
    """One case: a heading, a table, and what was skipped."""
    case = result.case
    found = result.medians()
    compared = ratios_to(references, found)
    shown = [name for name in references if name in found]
    header = ["proxy", *(metric.heading for metric in case.metrics)]
    header += [f"x {name}" for name in shown]
    rows = []
    for name, sample in found.items():
        row = [name, *(metric.show(sample[metric.key]) for metric in case.metrics)]
        for reference in shown:
            ratio = compared[name][reference].get(case.headline.key)
            row.append("-" if ratio is None else f"{ratio:.2f}")
        rows.append(row)
    parts = [f"### {case.name}: {case.title}"]
    if rows:
        parts.append(table(header, rows))
    if result.skipped:
        parts.append("\n".join(f"- {name}: {why}" for name, why in result.skipped.items()))
    return "\n\n".join(parts) + "\n"


def case_json(result: CaseResult, references: Sequence[str] = REFERENCES) -> dict[str, Any]:
    """One case, with every round and all ratios."""
    found = result.medians()
    compared = ratios_to(references, found)
    return {
        "title": result.case.title,
        "headline": result.case.headline.key,
        "proxies": {
            name: {
                "median": found[name],
                "ratios": compared[name],
                "rounds": result.rounds[name],
            }
            for name in found
        },
        "skipped": result.skipped,
    }
