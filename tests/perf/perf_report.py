"""How long a report takes over 50,000 records without rows. Run by hand: `python tests/perf/perf_report.py`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from perf_table import RECORDS, make_sweep, watch

from bench.report import write_report
from bench.run.store import Store


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.put_sweep("sweep", {**make_sweep(store), "started": "2026"})
        page = Path(folder) / "report.html"
        watch("report", lambda: write_report(store, page, None), RECORDS)
        print(f"{page.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
