"use strict";
const data = JSON.parse(document.getElementById("data").textContent);

/* --- sorting: rows move inside their body alone, so that references stay on top; all tables of an article follow --- */

function compare(column, descending, text) {
  const read = (row) => {
    const cell = row.cells[column];
    if (text) return cell.textContent;
    return cell.dataset.value ? Number(cell.dataset.value) : null;
  };
  return (a, b) => {
    const [x, y] = [read(a), read(b)];
    if (x === null || y === null) return (x === null) - (y === null); // what has no value stays below
    const order = text ? x.localeCompare(y) : x === y ? 0 : x < y ? -1 : 1;
    return descending ? -order : order;
  };
}

function sort(header) {
  const table = header.closest("table");
  const better = header.dataset.better;
  const before = header.getAttribute("aria-sort");
  const descending = before ? before === "ascending" : better === "higher"; // the best first, then the other way round
  const tables = table.closest("article").querySelectorAll(".board");
  tables.forEach((other) => other.querySelectorAll("th[aria-sort]").forEach((cell) => cell.removeAttribute("aria-sort")));
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const place = new Map();
  for (const body of table.tBodies) {
    const rows = [...body.rows].sort(compare(header.cellIndex, descending, better === "text"));
    rows.forEach((row, i) => place.set(row.dataset.row, i));
    body.append(...rows);
  }
  if (!table.querySelector("[data-row]")) return;
  for (const other of tables) {
    if (other === table || !other.querySelector("[data-row]")) continue;
    for (const body of other.tBodies) {
      body.append(...[...body.rows].sort((a, b) => (place.get(a.dataset.row) ?? Infinity) - (place.get(b.dataset.row) ?? Infinity) || 0));
    }
  }
}

/* --- provenance: what stands behind a number --- */

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function facts(pairs) {
  const list = element("dl");
  for (const [term, value] of pairs) {
    if (value === undefined || value === null || value === "") continue;
    const told = element("dd");
    told.append(value);
    list.append(element("dt", term), told);
  }
  return list;
}

const INTERVALS = {
  t: "Student's t over the means of synthesizer runs",
  bootstrap: "bootstrap over synthesizer runs",
  run: "that of the single run",
  "run+t": "that of each run joined with Student's t over runs",
  "run+bootstrap": "that of each run joined with the bootstrap over runs",
};

function charge(one) {
  const noise = one.noise_multiplier === null ? `pick ε ${one.pick_epsilon}` : `noise multiplier ${one.noise_multiplier}`;
  const rate = one.rate === 1 ? "" : `, sampling rate ${one.rate}`;
  return `${one.name}: ${one.mechanism} × ${one.count}, ${noise}, sensitivity ${one.sensitivity}${rate}`;
}

/** What the fits of a row were charged, each thing once: they differ in their seeds, and hardly in this. */
function charges(keys) {
  const told = keys.flatMap((key) => data.records[key]?.charges ?? []).map(charge);
  return [...new Set(told)].join("; ");
}

function scoreOf(record, score) {
  const own = score && record.scores ? record.scores[score] : undefined;
  if (own === undefined || own === null) return "";
  return typeof own === "object" ? `${own.value} (${own.low} to ${own.high})` : String(own);
}

function recordOf(key, score) {
  const record = data.records[key];
  const box = element("details");
  const title = element("summary");
  title.append(element("code", key));
  box.append(title);
  if (!record) {
    title.append(" · not run yet");
    return box;
  }
  const seeds = record.seeds ? Object.entries(record.seeds).map(([name, seed]) => `${name} ${seed}`).join(", ") : "";
  const value = scoreOf(record, score);
  const line = [record.stage, seeds && `seeds: ${seeds}`, value, record.status === "ok" ? "" : record.status, record.stale ? "stale †" : ""];
  title.append(` · ${line.filter(Boolean).join(" · ")}`);
  const maker = data.makers[record.maker];
  const names = (pairs) => Object.entries(pairs ?? {}).map(([name, text]) => `${name} ${text}`).join(", ");
  const budget = record.budget ? `ε ${record.budget.epsilon}, δ ${record.budget.delta}, ${record.budget.unit}` : "";
  box.append(facts([
    ["plugins", names(record.plugins)],
    ["failed because", record.reason],
    ["budget", budget],
    ["spent", record.spent === undefined ? "" : `ε ${record.spent}${record.accountant ? ` (${record.accountant})` : ""}`],
    ["charges", charges([key])],
    ["finished", record.finished],
    ["took", record.seconds === undefined ? "" : `${record.seconds} s`],
    ["process peak", record.peak === undefined ? "" : `${(record.peak / 1e9).toFixed(2)} GB`],
    ["source", record.stale ? "differs from today's, or was not given (--plugin FILE): stale †" : "as today"],
    ["source digests", names(record.sources)],
    ["commit", maker.commit],
    ["versions", names(maker.versions)],
    ["hardware", names(maker.hardware)],
    ["tell all", element("code", `bench show ${key}`)],
  ]));
  if (record.fit && record.fit !== key) box.append(recordOf(record.fit));
  return box;
}

function show(claim) {
  const dialog = document.getElementById("provenance");
  const place = dialog.querySelector("div");
  const title = element("h2", claim.title.replaceAll(" = ", "\u00a0=\u00a0"));
  title.id = "provenance-title";
  const interval = claim.low === undefined || claim.low === null ? "" : `${claim.low} to ${claim.high}: ${INTERVALS[claim.interval] ?? claim.interval}`;
  place.replaceChildren(title, facts([
    ["printed", claim.text],
    ["mean", claim.mean],
    ["95 % interval", interval],
    ["of at most", claim.ceiling],
    ["taken from", (claim.sources ?? []).join(", ")],
    ["runs", claim.planned === undefined ? "" : `${claim.n} of ${claim.planned}`],
    ["ranked by", claim.by],
    ["surely better", claim.better?.join("; ")],
    ["not told apart", claim.alike?.join("; ")],
    ["surely worse", claim.worse?.join("; ")],
    ["ε claimed", claim.claimed],
    ["ε spent", claim.spent],
    ["ε of a trajectory", claim.trajectory],
    ["δ", claim.delta],
    ["accountant", claim.accountant],
    ["charges", claim.claimed === undefined ? "" : charges(claim.keys)],
    ["failed because", (claim.why ?? []).join("; ")],
    ["", claim.stale ? element("span", "† rests on source that differs from today's, or was not given (--plugin FILE)", "warn") : ""],
  ]), ...claim.keys.map((key) => recordOf(key, claim.score)));
  dialog.showModal();
  dialog.scrollTop = 0;
}

document.addEventListener("click", (event) => {
  const sorter = event.target.closest(".sort");
  if (sorter) return sort(sorter.closest("th"));
  const number = event.target.closest("[data-claim]");
  if (number) return show(data.claims[Number(number.dataset.claim)]);
  if (event.target.id === "provenance") event.target.close();
});
