"""Is a utility fit to rank synthesizers? It must fall as real rows get worse.

    sweep -> the same sweep over corrupted copies of `real` -> Table -> Validity of each agent's score under each kind of corruption

The corrupted copies are ordinary rows (`real[corruption=independent,level=0.3]`), so store, seeds and pictures are those of any sweep.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources

import numpy as np
from scipy.stats import spearmanr

from bench.core.data import Unit
from bench.core.errors import InputError
from bench.core.registry import resolve
from bench.run.plan import chosen
from bench.run.spec import Sweep
from bench.tables.leaderboard import STALE, UTILITIES, Cell, Group, Table
from bench.tables.stats import paired_difference

LADDERS: Mapping[str, tuple[float, ...]] = {
    "independent": (0.3, 0.5, 0.7, 0.9),
    "noisy-steps": (2.0, 3.0, 4.0, 6.0),
    "blurred-positions": (0.4, 0.5, 0.6, 0.7),
    "permuted-rewards": (0.9, 0.93, 0.96, 0.99),
    "noisy-rewards": (1.5, 2.0, 2.5, 3.5),
    "fewer-rows": (0.97, 0.99, 0.997, 0.998),
}
"""Levels of each kind of corruption, of the rows that are released; level 0 is `real`.

Chosen on maze2d-umaze and -large (results/tuning): from the first that shows there, to where the score has little left to lose. Levels that do not
show tie with level 0 and those at the floor with each other, and of tied levels the rank correlation is a matter of luck, with however many seeds.
"""
_PLACES = {"x", "y"}
"""Names of the columns that positions are blurred in."""
_SUFFIX = " validation"
"""What the name of a preset has where its agents are validated."""
RHO = "\N{GREEK SMALL LETTER RHO}"
MONOTONE = -0.9
"""A utility is valid under a kind of corruption if its rank correlation with the level is at most this, and no level surely above real rows."""
Utility = tuple[str, str, str]
"""What is validated: the score, on an environment, of an agent, as a preset trains it."""


def validation_sweep(sweep: Sweep) -> Sweep:
    """The sweep that validates the agents of `sweep`: real rows and all their corrupted copies, no other score.

    Raises:
        InputError: an unknown environment, or several of which only some can bear every kind.
    """
    together = {kinds(plugin.label): plugin.label for plugin in chosen("environments", sweep.env)}
    if len(together) > 1:
        raise InputError(f"env: {' and '.join(together.values())} cannot be corrupted in the same ways; validate them one after the other")
    copies = (corrupted(kind, level) for kind in next(iter(together)) for level in LADDERS[kind])
    name = f"{sweep.preset}{_SUFFIX}"
    return replace(sweep, preset=name, synth=("real", *copies), metrics=(), attacks=(), unit=Unit.TRANSITION)


def kinds(env: str) -> tuple[str, ...]:
    """The kinds of corruption that an environment's rows can bear: where no column is a position, none is blurred."""
    columns = {column.name for column in resolve("environments", env).instance.schema.observations}
    return tuple(kind for kind in LADDERS if kind != "blurred-positions" or columns & _PLACES)


def corrupted(kind: str, level: float) -> str:
    """The name of a corrupted copy of `real`."""
    return f"real[corruption={kind},level={level}]"


@dataclass(frozen=True)
class Validity:
    """One agent's score on one environment under one kind of corruption.

    Attributes:
        preset: whose schedule the agent was trained by, and whose number of rows.
        levels, means: level 0 first.
        runs: the fewest runs behind a mean.
        correlation: Spearman's rank correlation of mean and level, 0 where all means are equal; None while a level is missing.
        visible: the smallest level from which on all are surely below level 0 (paired interval); None where there is none, or with single fits.
        above: the smallest level that is surely above level 0, so that real rows are not the ceiling; None where there is none.
    """

    env: str
    agent: str
    preset: str
    kind: str
    levels: tuple[float, ...]
    means: tuple[float, ...]
    runs: int
    correlation: float | None
    visible: float | None
    above: float | None = None
    stale: bool = False

    @property
    def valid(self) -> bool:
        return self.correlation is not None and self.correlation <= MONOTONE and self.above is None


def validities(table: Table) -> list[Validity]:
    """Every agent of a validation sweep, on every environment, under every kind of corruption.

    Raises:
        InputError: the table is of another sweep.
    """
    found = [validity for group in table.groups for validity in _group_validities(group)]
    if not found:
        raise InputError("--results: the newest sweep there validates nothing; start one with `bench validate --env NAME`")
    return found


def _group_validities(group: Group) -> Iterator[Validity]:
    cells = {row.synth: row.cells for row in group.body}
    for place, column in enumerate(group.columns):
        if column.kind in UTILITIES and "real" in cells:
            rungs_of = {kind: ("real", *(corrupted(kind, level) for level in levels)) for kind, levels in LADDERS.items()}
            ladders = {kind: list(map(cells.get, names)) for kind, names in rungs_of.items()}
            utility = (group.env, column.scorer, group.preset.removesuffix(_SUFFIX))
            yield from (_validity(utility, kind, [rung[place] for rung in rungs if rung]) for kind, rungs in ladders.items() if all(rungs))


def _validity(utility: Utility, kind: str, cells: Sequence[Cell | None]) -> Validity:
    levels, fits = (0.0, *LADDERS[kind]), [np.zeros(0) if cell is None or cell.runs is None else _fits(cell) for cell in cells]
    means, stale = tuple(float(own.mean()) if len(own) else math.nan for own in fits), any(cell.stale for cell in cells if cell)
    if not all(map(len, fits)):
        return Validity(*utility, kind, levels, means, 0, None, None, None, stale)
    correlation = round(float(spearmanr(levels, means).statistic), 6) if len(set(means)) > 1 else 0.0  # rounded: 5 levels with one swap give -.9
    real, *copies = (cell for cell in cells if cell)
    sides = [_side(copy, real) for copy in copies]
    visible = next((level for i, level in enumerate(levels[1:]) if max(sides[i:]) < 0), None)
    above = next((level for level, side in zip(levels[1:], sides, strict=True) if side > 0), None)
    return Validity(*utility, kind, levels, means, min(cell.n for cell in cells if cell), correlation, visible, above, stale)


def _side(copy: Cell, real: Cell) -> int:
    """1 if a copy is surely above real rows, -1 if it is surely below: by the paired interval, which a cell with a missing run has not."""
    if copy.failed or real.failed or copy.runs is None or real.runs is None:
        return 0
    difference = paired_difference(copy.runs, real.runs)
    return int(np.sign(difference.mean)) if difference.excludes_zero else 0


def _fits(cell: Cell) -> np.ndarray:
    """The mean of what is there of each fit: runs on one share its rows, so that the fits alone count as independent."""
    assert cell.runs is not None
    return np.array([finished.mean() for fit in cell.runs if len(finished := fit[np.isfinite(fit)])])


def shipped_validities() -> list[Validity]:
    """The conclusions that come with the package, on the utilities of its presets; how they were made is told in results/reference/README.md."""
    rows = json.loads(resources.files("bench").joinpath("presets", "validation.json").read_text())
    return [Validity(**{**row, "levels": tuple(row["levels"]), "means": tuple(row["means"])}) for row in rows]


def render_validities(found: Sequence[Validity]) -> str:
    """For a terminal: a block for each environment and agent, a line for each kind of corruption."""
    blocks = "\n\n".join(_block(utility, own) for utility, own in by_utility(found).items())
    return blocks + _LEGEND + (f"†             {STALE}\n" if "†" in blocks else "")


def by_utility(found: Sequence[Validity]) -> dict[Utility, list[Validity]]:
    """Those together that are of one agent on one environment, under one preset."""
    together: dict[Utility, list[Validity]] = {}
    for validity in found:
        together.setdefault((validity.env, validity.agent, validity.preset), []).append(validity)
    return together


def conclusion(own: Sequence[Validity]) -> str:
    """On one agent on one environment: valid under every kind of corruption that its rows can bear, and whether that was seen more than once."""
    if any(validity.correlation is not None and not validity.valid for validity in own):
        return "not valid"
    if {validity.kind for validity in own} != {*kinds(own[0].env)} or any(validity.correlation is None for validity in own):
        return "open: runs are missing"
    return "valid" if min(validity.runs for validity in own) > 1 else "valid by single runs"


def _block(utility: Utility, own: list[Validity]) -> str:
    lines = [f"{validity.kind:<18}  {_ladder(validity):<66}  {_correlation(validity):>6}  {_visible(validity)}" for validity in own]
    header = f"{'corruption':<18}  {'level: mean score':<66}  {RHO:>6}  visible from"
    return "\n".join([f"{' · '.join(utility)} · runs a level: {min(validity.runs for validity in own)} · {conclusion(own)}", header, *lines])


def _ladder(validity: Validity) -> str:
    return "  ".join(f"{level:g}: {'—' if math.isnan(mean) else f'{mean:.1f}'}" for level, mean in zip(validity.levels, validity.means, strict=True))


def _correlation(validity: Validity) -> str:
    return "—" if validity.correlation is None else f"{validity.correlation:.2f}"


def _visible(validity: Validity) -> str:
    level = "—" if validity.visible is None else f"{validity.visible:g}"
    above = "" if validity.above is None else f"  (above real rows at {validity.above:g})"
    return f"{level}{above}{' †' if validity.stale else ''}"


_LEGEND = f"""

level         share of rows (independent, permuted-rewards; fewer-rows: lost), deviations (noisy-steps, noisy-rewards), metres (blurred-positions)
{RHO}             Spearman's rank correlation of mean score and level; a score is valid if it is at most {MONOTONE} under every kind, and no level
              surely above real rows
visible from  the smallest level from which on all are surely below real rows (paired 95 % intervals)
"""
