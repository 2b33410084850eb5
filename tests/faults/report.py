"""The table: what was expected of each fault, and what was seen."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
RESULTS, README = HERE / "results.json", HERE / "README.md"
BEGIN, END = "<!-- made by `make test-faults-table` -->\n", "<!-- end -->\n"
HEADINGS = (
    "fault",
    "expected",
    "serves",
    "failed requests",
    "writes lost",
    "exit code",
    "message",
    "next run",
)
MESSAGE_WIDTH = 160


@dataclass
class Row:
    """What was seen of one fault."""

    kind: str
    fault: str
    expected: str
    serves: str = "?"
    failed: str = "?"
    lost: str = "?"
    code: str = "?"
    message: str = "-"
    after: str = "?"
    holds: bool = False

    def cells(self) -> list[str]:
        """Return the row's cells, as they are printed."""
        return [
            self.fault if self.holds else f"{self.fault} (NOT AS EXPECTED)",
            self.expected,
            self.serves,
            self.failed,
            self.lost,
            self.code,
            self.message,
            self.after,
        ]


def text(rows: list[Row]) -> str:
    """Return the table for a terminal: one line per fault, in columns but for the message, which comes below."""
    columns = [
        [heading, *(row.cells()[at] for row in rows)] for at, heading in enumerate(HEADINGS) if at != 6
    ]
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for number in range(len(rows) + 1):
        cells = [column[number].ljust(width) for column, width in zip(columns, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
        if number and rows[number - 1].message != "-":
            lines.append(f"    {rows[number - 1].message}")
    return "\n".join(lines)


def markdown(rows: list[Row]) -> str:
    """Return the table as Markdown, one part per kind."""
    lines = []
    for kind in dict.fromkeys(row.kind for row in rows):
        lines += [f"### {kind[0].upper()}{kind[1:]}", ""]
        lines += [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
        lines += [
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row.cells())} |"
            for row in rows
            if row.kind == kind
        ]
        lines.append("")
    return "\n".join(lines)


def keep(rows: list[Row], order: list[str]) -> None:
    """Put the rows of a run into the README, in the order of the table; those of cases that did not run stay.

    Args:
        rows: what the run saw.
        order: the names of all faults; what is not among them goes.
    """
    known = {row["fault"]: Row(**row) for row in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    known |= {row.fault: row for row in rows}
    kept = [known[name] for name in order if name in known]
    RESULTS.write_text(
        json.dumps([asdict(row) for row in kept], indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    README.write_text(
        f"{before}{BEGIN}\n{len(kept)} of {len(order)} cases have been seen.\n\n{markdown(kept)}\n{END}{rest.partition(END)[2]}",
        encoding="utf-8",
    )
