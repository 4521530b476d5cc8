"""A synthetic dataset as a file for others: D4RL's layout, with a privacy card beside it.

What goes out is the arrays of a sample record, the charges of its fit, and public facts. No other record and no other array is opened, not even that
of the fit, and what needs the sensitive rows (scores, counts, digests, timings) has no way out.

*Layout.* D4RL's files (Fu et al. 2020, arXiv 2004.07219) hold episodes, one row for each step: `observations`, `actions`, `rewards`, `terminals`,
`timeouts`. Its `qlearning_dataset` takes s' from the row that follows, and drops rows whose timeout is set. A synthetic row brings an s' of its own,
which need not be the next row's s, and need not be followed by anything. So wherever the next row does not go on from s', a closing row stands
between them: s' as its observation, zeros as action and reward, and a timeout, which says that the row has no successor. D4RL's readers, and the one
of this suite, then find exactly the rows that were released; of a row that ends in a terminal the latter takes s for s', which no agent reads. There
is no `next_observations`, as in D4RL's own maze2d and kitchen files: of a closing row there is none, and a reader that took one on trust would train
on it. There are no `infos`: what a simulator knew beside the state.
"""

from __future__ import annotations

import io
import json
import math
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from bench.core import registry
from bench.core.accounting import AGREEMENT
from bench.core.data import Bool, Transitions
from bench.core.errors import InputError
from bench.core.protocols import Environment, Guarantee
from bench.release.privacy_card import Card, privacy_card
from bench.run.staleness import stale_keys
from bench.run.store import Record, Store

Arrays = Mapping[str, NDArray]


def export(store: Store, prefix: str, to: Path) -> Card:
    """Write the rows that a key leads to, and their card to `to` with the endings .privacy.json and .privacy.md.

    Args:
        prefix: the key of a sample, of a fit with one sample, or of a score, or its first digits.
        to: a new file that ends in .hdf5 or .npz. The rows are written last, so that they never lie there without their card.

    Raises:
        InputError: the key leads to no sample or to several, to real rows, to a fit without a finite epsilon or of other sources than today's, or to
            rows that were dropped; or another file is there already, the ending is another one, or nothing can be written.
    """
    if to.suffix not in WRITERS:
        raise InputError(f"--to: {to} ends in neither {' nor '.join(WRITERS)}; give a file name that does")
    sample = _sample(store, store.find(prefix))
    fit = _fit(store, sample)
    environment = _environment(sample)
    if stale_keys([(fit.key, fit.key)], store):
        raise InputError(
            f"KEY: fit {fit.key} was made by other sources of {' or '.join(fit.plugins.values())} than are installed, of which alone a card speaks; "
            "export it with the version that made it, or run its sweep with --fresh, which is a second release"
        )
    if not store.blob_path(sample.key).exists():
        raise InputError(
            f"KEY: the rows of {sample.key} are no longer in {store.root} (--keep scores drops them); "
            "run the same sweep again with --fresh, or with the --results of another folder"
        )
    rows = Transitions(environment.schema.with_rows(sample.parameters["rows"]), **store.arrays(sample.key))
    card = privacy_card(fit, len(rows), environment)
    if card.epsilon_recomputed > card.epsilon_claimed * (1 + AGREEMENT):
        raise InputError(
            f"KEY: the events of {fit.key} cost epsilon {card.epsilon_recomputed:g}, which is more than the {card.epsilon_claimed:g} that it claims; "
            "fit it again"
        )
    files = {
        to.with_suffix(".privacy.json"): (json.dumps(card.to_json(), indent=1) + "\n").encode(),
        to.with_suffix(".privacy.md"): card.to_markdown().encode(),
        to: WRITERS[to.suffix](d4rl_arrays(rows)),
    }
    _write(files)
    return card


# --- which rows -------------------------------------------------------------------------------------------------------


def _sample(store: Store, record: Record) -> Record:
    """The sample that a record is, rests on, or is the only one of."""
    if record.stage == "sample":
        if not record.ok:
            raise InputError(f"KEY: sample {record.key} failed ({record.reason}); run the same sweep again")
        return record
    if record.stage == "fit":
        return _only_sample(store, record)
    source = record.inputs.get("sample") or record.inputs.get("target")
    found = store.get(source) if source else None
    if found is None or found.stage not in ("sample", "fit"):
        raise InputError(
            f"KEY: {record.key} is of stage {record.stage} and rests on no synthetic rows; give the key of a sample, of its fit or of a score"
        )
    return _sample(store, found)


def _only_sample(store: Store, fit: Record) -> Record:
    samples = [record for record in store.records() if record.stage == "sample" and record.ok and record.inputs["fit"] == fit.key]
    if len(samples) != 1:
        known = ", ".join(sorted(f"{record.key} of {record.parameters['released']:,} rows" for record in samples))
        raise InputError(
            f"KEY: {len(samples)} samples were drawn from fit {fit.key}; {f'give the key of one: {known}' if known else 'run its sweep'}"
        )
    return samples[0]


def _fit(store: Store, sample: Record) -> Record:
    """The fit behind a sample, if it may be released."""
    fit = store.get(sample.inputs["fit"])
    if fit is None or not fit.ok:
        raise InputError(f"KEY: the record of the fit behind sample {sample.key} is not in {store.root}, and with it what protects the rows")
    label = fit.plugins["synthesizers"]
    method = registry.resolve("synthesizers", label).instance
    if method.guarantee is Guarantee.NONE or fit.epsilon == math.inf:
        raise InputError(f"KEY: {sample.key} holds rows of {label} without a finite epsilon, which protects nobody; give a row with a guarantee")
    return fit


def _environment(sample: Record) -> Environment:
    """The environment of a sample, as it was when the rows were drawn: bounds and longest trajectory go onto the card.

    Raises:
        InputError: that of today declares something else.
    """
    made = sample.parameters["environment"]
    plugin = registry.resolve("environments", sample.plugins["environments"])
    if plugin.declared != {name: value for name, value in made.items() if name != "content"}:
        today = f"{made['plugin']} as {plugin.owner} has it now"
        raise InputError(f"KEY: {sample.key} was not made with {today}, whose bounds may be others; give the file it was made with, or run again")
    environment: Environment = plugin.instance
    return environment


# --- D4RL's layout ----------------------------------------------------------------------------------------------------


def d4rl_arrays(data: Transitions) -> dict[str, NDArray]:
    """The arrays of a file by key: the rows in their order, and a closing row wherever the next one does not go on from s'."""
    closed = ~_continued(data)
    place = np.arange(len(data)) + np.cumsum(closed) - closed
    closing = place[closed] + 1
    length = len(data) + len(closing)

    def spread(values: NDArray) -> NDArray:
        """Zeros in the closing rows."""
        array = np.zeros((length, *values.shape[1:]), values.dtype)
        array[place] = values
        return array

    observations, timeouts = spread(data.observations), np.zeros(length, bool)
    observations[closing], timeouts[closing] = data.next_observations[closed], True
    names = ("actions", "rewards", "terminals")
    return {"observations": observations, **{name: spread(getattr(data, name)) for name in names}, "timeouts": timeouts}


def _continued(data: Transitions) -> Bool:
    """Whether the row that follows is the next step: the same trajectory, no end between them, and its s is this row's s'."""
    continued = np.zeros(len(data), bool)
    if data.trajectories is not None:
        continued[:-1] = (data.observations[1:] == data.next_observations[:-1]).all(axis=1)
        continued[data.trajectories[1:] - 1] = False
    return continued & ~data.terminals & ~data.timeouts


# --- files ------------------------------------------------------------------------------------------------------------


def _hdf5(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, compression="gzip")
    return buffer.getvalue()


def _npz(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


WRITERS: Mapping[str, Callable[[Arrays], bytes]] = {".hdf5": _hdf5, ".npz": _npz}


def _write(files: Mapping[Path, bytes]) -> None:
    """Each file whole, in this order; one that is there already must be equal."""
    try:
        for path, content in files.items():
            if path.exists() and path.read_bytes() != content:
                raise InputError(f"--to: {path} is there already and is another one; remove it or give another name")
        for path, content in files.items():
            partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
            try:
                partial.write_bytes(content)
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"--to: cannot write {path} ({error.strerror}); give a file in a folder that can be written") from error
