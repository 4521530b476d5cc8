"""The page of a report, without a browser: what is in the file, made of hand-made records."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_made import SECONDS, HandMade
from page_support import Reader, plain, report, two_budgets

from bench.core.accounting import Charge, epsilon_spent
from bench.report import write_report
from bench.report.audited import audits_of
from bench.report.evidence import Evidence
from bench.report.markup import breakable
from bench.run.store import Record, Store
from bench.tables.evidence import REFUTED
from bench.tables.leaderboard import Group
from bench.tables.render.words import identity, printed_columns


@pytest.fixture
def bench(tmp_path: Path) -> HandMade:
    return two_budgets(tmp_path)


def test_the_file_asks_the_network_for_nothing(bench: HandMade) -> None:
    page = report(bench)
    assert not re.findall(r"https?://|//[a-z]+\.|@import|@font-face", page)
    links = [value or "" for _, attributes in Reader(page).tags for name, value in attributes.items() if name in ("src", "href", "xlink:href")]
    assert links, "nothing was read"
    assert [link for link in links if not link.startswith(("#", "data:"))] == []
    assert re.findall(r"url\((?!#)[^)]*\)", page) == []
    assert "default-src 'none'" in page


def test_every_key_leads_to_its_record(bench: HandMade) -> None:
    data = Reader(report(bench)).data
    records, claims = data["records"], data["claims"]
    assert {key for claim in claims for key in claim["keys"]} <= set(records)
    assert {record["fit"] for record in records.values() if record and "fit" in record} <= set(records)
    assert {record["maker"] for record in records.values() if record} <= set(range(len(data["makers"])))
    assert {leaf["key"] for leaf in bench.leaves} | {leaf["fit"] for leaf in bench.leaves} <= set(records)
    yet_to_come = [key for key, record in records.items() if record is None]
    assert [bench.store.get(key) for key in yet_to_come] == [None]


def test_every_button_has_a_claim(bench: HandMade) -> None:
    read = Reader(report(bench))
    asked = {int(attributes["data-claim"] or -1) for tag, attributes in read.tags if tag == "button" and "data-claim" in attributes}
    assert asked == set(range(len(read.data["claims"])))


def test_every_number_of_the_leaderboard_is_a_button(bench: HandMade) -> None:
    """Ranks and epsilons too: in a row nothing but names and words stands bare."""
    lines = re.findall(r"<tr data-row=.*</tr>", report(bench))
    cells = [cell for line in lines for cell in re.findall(r"<td(?! class=name)[^>]*>(.*?)</td>", line)]
    assert len(cells) > 50
    assert [cell for cell in cells if cell and not cell.startswith("<button data-claim=")] == []


def claim_of(data: dict[str, Any], title: str) -> dict[str, Any]:
    return next(claim for claim in data["claims"] if claim["title"] == title)


def test_an_epsilon_tells_what_was_spent_and_its_fits(bench: HandMade) -> None:
    data = Reader(report(bench)).data
    claim = claim_of(data, "pgm, ε = 10: privacy")
    assert (claim["claimed"], claim["spent"], claim["delta"]) == (10.0, 9.9, 1e-7)
    assert claim["keys"] == [f"maze2d-medium-1000000-transition-pgm-10.0-fit{seed}" for seed in range(3)]
    assert claim_of(data, "real: privacy")["claimed"] == "∞"
    assert claim_of(data, "real vs real: privacy")["keys"] == ["maze2d-medium-one-way-ceiling"]


def test_a_rank_tells_what_it_is_counted_from(bench: HandMade) -> None:
    data, (group,) = Reader(report(bench)).data, Evidence.read(bench.store).table.groups
    claim = claim_of(data, "pgm, ε = 1: rank")
    assert claim["alike"] == ["gan, ε = 1"]
    assert claim["better"] == ["pgm, ε = 10"]
    assert claim["worse"] == ["public-data", "independent, ε = 1"]
    assert claim["keys"] == [leaf["key"] for leaf in bench.leaves if (leaf["synth"], leaf["epsilon"], leaf["plugin"]) == ("pgm", 1.0, "iql")]
    ranks = {f"{row.synth}, ε = {row.epsilon:g}" if row.epsilon else row.synth: row.ranks for row in group.body if row.ranks}
    standings = {title: claim_of(data, f"{title}: rank") for title in ranks}
    assert {title: (1 + len(own["better"]), len(ranks) - len(own["worse"])) for title, own in standings.items()} == ranks


def test_a_tuned_agent_goes_by_its_short_name_and_is_given_in_full_once(bench: HandMade) -> None:
    for leaf in bench.leaves:
        leaf["plugin"] = {"iql": "iql[width=8,rate=0.1]"}.get(leaf["plugin"], leaf["plugin"])
    page = report(bench)
    text = re.sub("<(script|style).*?</\\1>|<[^>]*>", "", page, flags=re.DOTALL)
    assert text.count("width=8") == 1
    assert "in full" in text
    assert "best mean of iql of all" in text
    assert "iql against thousands of gradient steps" in text


def test_what_a_picture_leaves_out_is_named(bench: HandMade) -> None:
    for i in range(9):
        bench.row(f"extra-{i}", 1.0, iql=[-10.0 - i, -11.0 - i, -12.0 - i])
    captions = [plain(re.sub("<[^>]*>", "", part)) for part in re.findall('<p class="caption">(.*?)</p>', report(bench))]
    (curves,) = [caption for caption in captions if "gradient steps" in caption]
    assert "left out, as they stand further down in the table: extra-7, extra-8." in curves
    assert [caption for caption in captions if "left out" in caption] == [curves]


def test_one_budget_is_drawn_in_one_picture_and_several_in_one_for_each_method(bench: HandMade, tmp_path: Path) -> None:
    assert "Utility against ε" in report(bench)
    made = HandMade(Store(tmp_path / "other"))
    for name in ("pgm", "gan"):
        made.row(name, 1.0, iql=[60.0, 61.0, 62.0])
    page = report(made)
    assert "Utility at ε = 1" in page
    assert "Utility against ε" not in page


def test_corrupted_real_rows_are_no_floor(bench: HandMade) -> None:
    bench.row("real[corruption=independent,level=0.3]", iql=[40.0, 41.0, 42.0])
    assert "Dashed: real rows. Dotted: the best row that needs no private data." in report(bench)
    bench.leaves = [leaf for leaf in bench.leaves if leaf["guarantee"] != "data-free"]
    assert "Dotted" not in report(bench)


def test_a_claim_tells_the_runs_behind_its_number(bench: HandMade) -> None:
    data = Reader(report(bench)).data
    (claim,) = [claim for claim in data["claims"] if claim["title"] == "pgm at ε = 10, iql: score"][:1]
    assert claim["mean"] == 71.0
    assert [data["records"][key]["scores"]["score"] for key in claim["keys"]] == [70.0, 72.0, 71.0]
    assert [data["records"][key]["seeds"]["synthesizer"] for key in claim["keys"]] == [0, 1, 2]
    fits = [data["records"][data["records"][key]["fit"]] for key in claim["keys"]]
    assert [fit["spent"] for fit in fits] == [9.9] * 3


def test_an_infinite_epsilon_is_a_sign_and_no_part_of_a_name(bench: HandMade) -> None:
    bench.row("infinite", math.inf, inference=[0.1, 0.1, 0.1])
    titles = {claim["title"] for claim in Reader(report(bench)).data["claims"]}
    assert "infinite at ε = ∞, inference: advantage" in titles
    assert "infinite, ε = ∞: privacy" in titles


def test_no_line_ends_inside_a_number() -> None:
    assert breakable("pgm[degree=3,cells=10] 1,000,000 rows") == "pgm[<wbr>degree=3,<wbr>cells=10] 1,000,000\N{NO-BREAK SPACE}rows"


def test_a_public_phase_costs_what_one_of_its_seeds_took(bench: HandMade) -> None:
    for seed in range(3):
        fit = bench.store.get(f"maze2d-medium-1000000-transition-pgm-1.0-fit{seed}")
        assert fit is not None
        bench.store.put(replace(fit, inputs={"pretrained": bench.put(f"public-{seed}", "pretrain", {})}))
    bench.store.put_sweep("sweep", bench.manifest())
    (method,) = [own for own in Evidence.read(bench.store).sections[0].methods if own.title == "pgm, ε = 1"]
    assert method.cost.seconds["public pre-training"] == 1.0


def test_agents_cost_what_those_of_one_synthesizer_seed_took(tmp_path: Path) -> None:
    """Two agents on each of two samples, for every fit: beside the time of a fit, that of all seeds would be of another thing."""
    made = HandMade(Store(tmp_path))
    made.grid("pgm", 1.0, np.full((3, 2, 2), 50.0))
    made.store.put_sweep("sweep", made.manifest())
    (method,) = Evidence.read(made.store).sections[0].methods
    assert method.cost.seconds["agents"] == 4 * SECONDS["train"]


def test_equal_records_give_equal_bytes(bench: HandMade) -> None:
    bench.store.put_sweep("sweep", bench.manifest())
    written = []
    for place in ("first", "second"):
        folder = bench.store.root.parent / place
        files = write_report(bench.store, folder / "report.html", folder / "figures")
        written.append({path.name: path.read_bytes() for path in files})
    assert {Path(name).suffix for name in written[0]} == {".html", ".png", ".pdf", ".txt"}
    assert written[0] == written[1]


def shown(group: Group) -> list[list[str]]:
    """Name, epsilon and every score of a group as the tables print them, by row, without those that are empty."""
    names = identity(group)
    columns = [names["synthesizer"], names["ε"], *([str(cell) for cell in column] for column in printed_columns(group))]
    return [[plain(cell) for cell in row if cell] for row in zip(*columns, strict=True)]


def test_the_leaderboard_prints_what_the_tables_print(bench: HandMade) -> None:
    read = Reader(report(bench))
    (group,) = Evidence.read(bench.store).table.groups
    for i, numbers in enumerate(shown(group)):
        cells = [plain(cell) for attributes, cells in read.rows if attributes.get("data-row") == str(i) for cell in cells]
        assert [number for number in numbers if number not in cells] == []


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    made = HandMade(Store(tmp_path / "store"), heading={"env": "</script><b>env"})
    for name in ("<script>alert(1)</script>", "$\\frac{1}{0}$ \"'&amp;", "`code`"):
        made.row(name, 1.0, iql=[1.0, 2.0, 3.0], one_way=[0.9, 0.9, 0.9])
    read = Reader(report(made))
    assert [tag for tag, _ in read.tags].count("script") == 2
    assert "b" not in {tag for tag, _ in read.tags}
    assert read.lines("<script>alert(1)</script>")
    assert read.lines("$\\frac{1}{0}$ \"'&amp;")


def test_a_sweep_under_way_is_reported_as_far_as_it_is(bench: HandMade, tmp_path: Path) -> None:
    assert "1 still to come" in report(bench)
    assert "1 failed" in report(bench)
    bare = HandMade(Store(tmp_path / "bare"))
    bare.row("pgm", 1.0, iql=[..., ...])
    assert "0 of 2 scores · 2 still to come" in report(bare)


def test_missing_rows_and_audits_are_said_to_be_missing(bench: HandMade) -> None:
    page = report(bench)
    assert "no record that names held-out rows" in page
    assert "No audit in this store fits" in page


def test_units_stand_in_articles_of_their_own(bench: HandMade) -> None:
    bench.heading["unit"] = "trajectory"
    bench.row("privorl-j", 1.0, iql=[5.0, 6.0, 7.0])
    read = Reader(report(bench))
    assert [attributes["id"].rpartition("-")[2] for tag, attributes in read.tags if tag == "article" and attributes["id"]] == [
        "transition",
        "trajectory",
    ]


def test_an_overspent_row_is_struck_out_and_never_recommended(bench: HandMade) -> None:
    fit = bench.store.get("maze2d-medium-1000000-transition-pgm-10.0-fit0")
    assert fit is not None
    fit.result["epsilon_spent"] = 11.0
    bench.store.put(fit)
    page = report(bench)
    struck = {int(attributes["data-row"] or -1) for attributes, _ in Reader(page).rows if attributes.get("class") == "struck"}
    body = Evidence.read(bench.store).table.groups[0].body
    assert [(body[i].synth, body[i].epsilon) for i in struck] == [("pgm", 10.0)]
    assert "At ε = 10," not in page


AUDITED = Charge("counts", "gaussian", 1.0, 1, noise_multiplier=4.0)


def audit_record(plugin: str, epsilon: float, found: float) -> Record:
    """An audit of the registered method, as `bench audit` would store it, but that its record says it spent nothing."""
    from bench.core import registry

    identity_of = registry.jsonable(registry.at_audit_size(registry.resolve("synthesizers", plugin)).identity)
    bounds = {name: {"epsilon": low, "ceiling": 5.0, "p_value": 0.4} for name, low in (("one-run f-dp", found), ("one-run", 0.8 * found))}
    budget = {"epsilon": epsilon, "delta": 1e-5, "unit": "transition", "accountant": "pld"}
    result = {"epsilon_spent": 0.0, "accountant": "pld", "rows": 1000, "bounds": bounds, "charges": [asdict(AUDITED)]}
    plugins = {"audits": "one-run", "synthesizers": plugin, "environments": "toy"}
    return Record(
        f"audit-{plugin}-{epsilon}", "audit", "ok", None, {"synthesizer": identity_of, "budget": budget}, {}, plugins, result, False, {"sources": {}}
    )


def test_audits_stand_beside_the_rows_that_they_fit(bench: HandMade) -> None:
    bench.store.put(audit_record("pgm", 1.0, 0.25))
    bench.store.put(audit_record("pgm", 3.0, 0.75))
    read = Reader(report(bench))
    (line,) = [cells for _, cells in read.rows if list(map(plain, cells[:2])) == ["pgm, ε = 1", "one-run"]]
    assert line[3:] == ["1", f"{epsilon_spent([AUDITED], 1e-5, 'pld'):.3f}", "0.25", "5.00", "0.20", "0.4", "not refuted"]
    assert not [cells for _, cells in read.rows if "0.75" in cells]


def test_audits_of_other_sweeps_share_the_chance_of_a_false_refutation(bench: HandMade) -> None:
    """Each alone would refute the row at 99.9 %: who looks at ten such audits finds one in a hundred sound methods refuted."""
    audit = audit_record("pgm", 1.0, 2.0)
    for bounds in audit.result["bounds"].values():
        bounds["p_value"] = 0.8 * REFUTED
    for place in ("here", "there"):
        bench.store.put(replace(audit, key=f"audit-{place}"))
    bench.store.put_sweep("sweep", bench.manifest())
    evidence = Evidence.read(bench.store)
    assert [own.verdict for own in audits_of(evidence.sections[0], evidence)] == ["not refuted"] * 2


def test_learning_curves_are_drawn_where_runs_have_finished(bench: HandMade, tmp_path: Path) -> None:
    assert "pgm, ε = 1 and 10" in report(bench)
    bare = HandMade(Store(tmp_path / "bare"))
    bare.row("pgm", 1.0, iql=[..., ...])
    assert "No agent has finished yet" in report(bare)
