"""Which records were made by other source code than today's: they are reused, and marked wherever they are shown."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from bench.core import registry
from bench.core.errors import InputError
from bench.run.store import Store


def stale_keys(leaves: Iterable[tuple[str, str]], store: Store) -> set[str]:
    """Of (key, key of its fit), the keys whose own or whose fit's record was made by another source than today's."""
    digest_today = cache(_digest_today)  # many records name the same plugins, and many scores the same fit

    @cache
    def is_stale(key: str) -> bool:
        record = store.get(key)
        return record is not None and record.provenance["sources"] != {group: digest_today(group, label) for group, label in record.plugins.items()}

    return {key for key, fit in leaves if is_stale(key) or is_stale(fit)}


def _digest_today(group: str, label: str) -> str | None:
    """None where this installation has no such plugin: nobody can say then that its source is still the same."""
    try:
        return registry.resolve(group, label).digest
    except InputError:
        return None
