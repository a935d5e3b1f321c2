"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence


def print_table(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Markdown: the first column left-aligned, the others right-aligned."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    rule = tuple("-" * (w - (i > 0)) + ":" * (i > 0) for i, w in enumerate(widths))
    print(f"\n{title}\n")
    for row in (header, rule, *rows):
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        print(f"| {' | '.join(cells)} |")
