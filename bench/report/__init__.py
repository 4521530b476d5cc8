"""`bench report`: everything a store knows about its newest sweep, as one HTML file, and its pictures as PNG and PDF.

    store -> Evidence -> pictures of records and of rows -> page
                                                        \\-> files

Equal records give equal bytes. A sweep under way is reported as far as it is, and what the store no longer holds is said to be missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.core.errors import InputError
from bench.report.audited import audits_of
from bench.report.drawing import Picture, save
from bench.report.evidence import Evidence
from bench.report.page import build_page
from bench.report.pictures_of_records import is_validation, pictures_of_records
from bench.report.pictures_of_rows import pictures_of_rows
from bench.run.store import Store


def write_report(store: Store, out: Path | None, figures: Path | None) -> list[Path]:
    """Write the page to `out` and the pictures into `figures`; either may be None. The files that were written.

    Raises:
        InputError: no sweep, an unreadable record, or a place that cannot be written.
    """
    evidence = Evidence.read(store)
    audited = {section.slug: audits_of(section, evidence) for section in evidence.sections}
    pictures: dict[str, list[Picture]] = {}
    for section in evidence.sections:
        of_rows = [] if is_validation(section) else pictures_of_rows(section)
        pictures[section.slug] = [*pictures_of_records(section, audited[section.slug]), *of_rows]
    written = []
    if out is not None:
        page = build_page(evidence, audited, pictures)
        with _written(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(page, encoding="utf-8")
        written.append(out)
    if figures is not None:
        with _written(figures):
            figures.mkdir(parents=True, exist_ok=True)
            written += [path for slug, own in pictures.items() for picture in own if picture.panels for path in save(picture, figures, slug)]
    return written


@contextmanager
def _written(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{place}: cannot be written ({error.strerror}); give a place that can") from error
