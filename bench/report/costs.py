"""What rows cost, in tables."""

from __future__ import annotations

from bench.report.evidence import PHASES, Method, Section
from bench.report.markup import cell, duration, number, row_name, sorter, table
from bench.report.provenance import Claims


class Costs:
    """Prints times and memory; one claim holds all numbers of a row."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._known: dict[str, int] = {}

    def table(self, section: Section) -> str:
        """Time by phase and peak memory of every row that has begun."""
        used = [phase for phase in PHASES if any(method.cost.seconds[phase] for method in section.methods)]
        head = "".join(f"<th data-better=lower>{sorter(name)}</th>" for name in [*used, "memory at most"])
        lines = (
            f"<tr>{row_name(method.title)}{''.join(self.time(method, method.cost.seconds[phase]) for phase in used)}{self.memory(method)}</tr>"
            for method in section.methods
            if method.cost.keys
        )
        return table(f"<tr><th class=name data-better=text>{sorter('method')}</th>{head}</tr>", ["".join(lines)], "board")

    def time(self, method: Method, seconds: float) -> str:
        return cell(number(duration(seconds), self._claim(method)), seconds)

    def memory(self, method: Method) -> str:
        peak = method.cost.memory
        return cell("") if peak is None else cell(number(f"{peak / 1e9:.1f} GB", self._claim(method)), peak)

    def _claim(self, method: Method) -> int:
        if method.title not in self._known:
            self._known[method.title] = self._claims.add(f"{method.title}: cost", method.cost.keys)
        return self._known[method.title]
