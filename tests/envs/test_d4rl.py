"""D4RL files: what is read, what is refused, how it is split and where it comes from. All files are small and written here."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from d4rl_support import SCHEMA, arrays, write

from bench.core.data import PARTS, Column, Schema, Transitions
from bench.envs import d4rl
from bench.envs.d4rl import D4rlFile, load_d4rl


def names(data: Transitions) -> list[int]:
    """The file rows that were kept."""
    return data.observations[:, 0].astype(int).tolist()


# Reading


def test_without_next_observations_s_prime_is_the_next_row_and_a_timeout_row_is_dropped(target: Path) -> None:
    data = load_d4rl(write(target, arrays([2, 5, 7])), SCHEMA)
    assert names(data) == [0, 1, 3, 4, 6]
    np.testing.assert_array_equal(data.next_observations[:, 0], [1, 2, 4, 5, 7])
    np.testing.assert_array_equal(data.trajectories, [0, 2, 4, 5])
    np.testing.assert_array_equal(np.flatnonzero(data.timeouts), [1, 3, 4])


def test_rows_are_those_of_d4rls_rule(target: Path) -> None:
    """Oracle: the loop of D4RL's `qlearning_dataset` (terminate_on_end=False) on a file with timeouts and no terminals."""
    content = arrays(sorted(np.random.default_rng(1).choice(300, 80, replace=False).tolist()))
    kept = [i for i in range(len(content["rewards"]) - 1) if not content["timeouts"][i]]
    longest = Schema(**{**vars(SCHEMA), "max_trajectory_length": 1_000})
    data = load_d4rl(write(target, content), longest)
    assert names(data) == kept
    for key, values in {"actions": data.actions, "rewards": data.rewards}.items():
        np.testing.assert_array_equal(values, content[key][kept])
    np.testing.assert_array_equal(data.next_observations[:, 0], np.array(kept) + 1)


def test_a_terminal_row_stays_without_reaching_into_the_next_episode(target: Path) -> None:
    data = load_d4rl(write(target, arrays([2, 4], "terminals")), SCHEMA)
    assert names(data) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(data.next_observations[:, 0], [1, 2, 2, 4, 4])
    np.testing.assert_array_equal(np.flatnonzero(data.terminals), [2, 4])
    assert not data.timeouts.any()


def test_a_terminal_that_the_schema_does_not_know_ends_the_episode_only(target: Path) -> None:
    never = Schema(**{**vars(SCHEMA), "terminal": Column("terminal", 0, 0, levels=(0,))})
    data = load_d4rl(write(target, arrays([2, 4], "terminals")), never)
    assert names(data) == [0, 1, 3]
    assert not data.terminals.any()


def test_recorded_next_observations_are_taken_and_keep_every_row(target: Path) -> None:
    content = arrays([2, 5])
    content["next_observations"] = content["observations"] + np.float32([0.5, 0])
    data = load_d4rl(write(target, content), SCHEMA)
    assert names(data) == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(data.next_observations, content["next_observations"])
    np.testing.assert_array_equal(np.flatnonzero(data.timeouts), [2, 5])


def test_the_tail_beyond_the_cap_is_dropped_and_never_a_second_unit(target: Path) -> None:
    data = load_d4rl(write(target, arrays([19, 22])), SCHEMA)
    assert names(data) == [0, 1, 2, 3, 4, 5, 20, 21]
    np.testing.assert_array_equal(data.trajectories, [0, 6, 8])
    np.testing.assert_array_equal(np.flatnonzero(data.timeouts), [5, 7])


def test_values_outside_the_declared_bounds_are_clipped_and_levels_snapped(target: Path) -> None:
    content = arrays([5])
    content["observations"][0] = (-7, 1.9)
    content["actions"][1] = 3
    content["rewards"][:3] = (9, 1.4, -1)
    data = load_d4rl(write(target, content), SCHEMA)
    assert data.observations[0].tolist() == [0, 2]
    assert data.actions[1] == 1
    assert data.rewards[:3].tolist() == [4, 1, 0]


def test_levels_may_be_declared_in_any_order(target: Path) -> None:
    content = arrays([5])
    content["rewards"][:5] = (0, 1.4, 2, 3.6, 4)
    path = write(target, content)
    shuffled = Schema(**{**vars(SCHEMA), "reward": Column("reward", 0, 4, levels=(4, 2, 0, 1, 3))})
    assert load_d4rl(path, shuffled).rewards.tolist() == load_d4rl(path, SCHEMA).rewards.tolist() == [0, 1, 2, 4, 4]


def test_bool_flags_integers_and_doubles_become_float32(target: Path) -> None:
    content = arrays([2, 5])
    content |= {
        "timeouts": content["timeouts"].astype(bool),
        "rewards": content["rewards"].astype(int),
        "actions": content["actions"].astype(np.float64),
    }
    data = load_d4rl(write(target, content), SCHEMA)
    assert names(data) == [0, 1, 3, 4]
    assert data.actions.dtype == np.float32


# Refusals: one sentence that names the file, the key and the remedy


def broken(key: str, change: object) -> dict[str, np.ndarray]:
    content = arrays([2, 5])
    content[key] = change(content[key]) if callable(change) else change
    return content


def with_nan(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[3] = np.nan
    return values


CASES = {
    "missing key": ({k: v for k, v in arrays([2]).items() if k not in ("actions", "rewards")}, "no key 'actions', 'rewards'"),
    "ragged": (broken("rewards", lambda v: v[:-1]), "key 'rewards' has 5 rows where 'observations' has 6"),
    "ragged flags": (broken("timeouts", lambda v: v[:-2]), "key 'timeouts' has 4 rows where 'observations' has 6"),
    "NaN": (broken("observations", with_nan), "key 'observations' holds NaN or infinity, first in row 3"),
    "infinite": (broken("actions", lambda v: v + np.inf), "key 'actions' holds NaN or infinity, first in row 0"),
    "NaN flag": (broken("terminals", with_nan), "key 'terminals' holds NaN or infinity, first in row 3"),
    "wide observations": (broken("observations", lambda v: v[:, [0, 1, 1]]), r"key 'observations' has shape \(6, 3\) where \(6, 2\) belongs"),
    "narrow successors": (broken("next_observations", np.zeros((6, 1))), r"key 'next_observations' has shape \(6, 1\) where \(6, 2\) belongs"),
    "column of rewards": (broken("rewards", lambda v: v[:, None]), r"key 'rewards' has shape \(6, 1\) where \(6\) belongs"),
    "scalar": (broken("observations", np.float32(1)), "key 'observations' has no rows"),
    "empty": ({key: values[:0] for key, values in arrays([2]).items()}, "key 'observations' has no rows"),
    "text": (broken("actions", np.array([b"left"] * 6)), "key 'actions' holds .* where numbers belong"),
    "no successor": (arrays([0, 1, 2]), "no row has a successor in its episode"),
}


@pytest.mark.parametrize(("content", "sentence"), CASES.values(), ids=CASES)
def test_malformed_content_is_refused(target: Path, content: dict[str, np.ndarray], sentence: str) -> None:
    with pytest.raises(ValueError, match=rf"data\.hdf5: .*{sentence}.*; mend the file, .* in its layout with path=$"):
        load_d4rl(write(target, content), SCHEMA)


def test_what_is_no_hdf5_is_refused(target: Path) -> None:
    target.write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"data\.hdf5: not a whole HDF5 file .*path=$"):
        load_d4rl(target, SCHEMA)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(target: Path, share: float) -> None:
    content = write(target, arrays(list(range(9, 1_000, 10)))).read_bytes()
    target.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"data\.hdf5: not a whole HDF5 file .*path=$"):
        load_d4rl(target, SCHEMA)


# Parts


def file_of(path: Path) -> D4rlFile:
    return D4rlFile("maze2d-umaze-dense-v1", str(path))


def test_timeouts_may_be_missing_in_a_file_of_d4rl_alone(target: Path) -> None:
    """Elsewhere two people without a mark between them would be one unit, and nobody would see it."""
    content = arrays([9, 19, 29, 49], "terminals")
    write(target, {key: values for key, values in content.items() if key != "timeouts"})
    assert len(D4rlFile("kitchen-partial-v0", str(target)).part(SCHEMA, 10, 0, "train")), "D4RL's has none"
    for name in ("turbine", "maze2d-umaze-dense-v1"):
        with pytest.raises(ValueError, match=r"no key 'timeouts'; mend the file"):
            D4rlFile(name, str(target)).part(SCHEMA, 10, 0, "train")


def test_parts_are_disjoint_whole_episodes_of_about_70_15_and_15_percent(target: Path) -> None:
    file = file_of(write(target, arrays(list(range(4, 5_000, 5)))))
    episodes = {}
    for part in PARTS:
        data = file.part(SCHEMA, 10_000, 0, part)
        assert (np.diff(data.require_trajectories()) == 4).all()
        np.testing.assert_array_equal(np.flatnonzero(data.timeouts), data.require_trajectories()[1:] - 1)
        episodes[part] = {row // 5 for row in names(data)}
    assert sum(len(ids) for ids in episodes.values()) == len(set.union(*episodes.values())) == 1_000
    shares = np.array([len(episodes[part]) for part in PARTS]) / 1_000
    np.testing.assert_allclose(shares, [0.7, 0.15, 0.15], atol=0.05)  # three standard errors of a coin


def episodes_of(data: Transitions) -> list[bytes]:
    """The rows of each trajectory, in the order of the part."""
    offsets = data.require_trajectories()
    return [data.table()[start:end].tobytes() for start, end in pairwise(offsets)]


def without_episode(content: dict[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
    """A file of episodes of five rows less one of them."""
    return {key: np.delete(values, np.s_[5 * index : 5 * index + 5], axis=0) for key, values in content.items()}


@pytest.mark.parametrize("index", [0, 57, 199])
def test_neighbours_of_the_file_are_neighbours_of_one_part_and_no_other_episode_moves(target: Path, index: int) -> None:
    whole = arrays(list(range(4, 1_000, 5)))
    parts = []
    for content in (whole, without_episode(whole, index)):
        file = file_of(write(target, content))
        parts.append([episodes_of(file.part(SCHEMA, 10_000, 0, part)) for part in PARTS])
    gone = [set(before) - set(after) for before, after in zip(*parts, strict=True)]
    assert sum(map(len, gone)) == 1
    assert [[episode for episode in before if episode not in lost] for before, lost in zip(parts[0], gone, strict=True)] == parts[1], "order too"


def test_equal_episodes_are_in_one_part(target: Path) -> None:
    """Wherever they stand in the file: a copy in the holdout would be a member there."""
    content, rows = arrays(list(range(4, 500, 5))), np.arange(500).reshape(100, 5)
    twice = np.concatenate([rows, rows[::-1]]).ravel()
    file = file_of(write(target, {key: values[twice] for key, values in content.items()}))
    parts = [episodes_of(file.part(SCHEMA, 10_000, 0, part)) for part in PARTS]
    assert sum(map(len, parts)) == 200
    assert sum(len(set(part)) for part in parts) == len({episode for part in parts for episode in part}) == 100


def test_a_part_is_in_no_order_of_the_file(target: Path) -> None:
    rows = names(file_of(write(target, arrays(list(range(4, 1_000, 5))))).part(SCHEMA, 10_000, 0, "train"))
    assert np.corrcoef(rows, np.arange(len(rows)))[0, 1] < 0.5


def test_the_seed_chooses_the_split(target: Path) -> None:
    file = file_of(write(target, arrays(list(range(4, 500, 5)))))
    first, again, other = (file.part(SCHEMA, 50, seed, "train").table() for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("rows", [1, 4, 5, 11, 12])
def test_rows_are_whole_episodes_and_the_last_one_is_cut_by_a_timeout(target: Path, rows: int) -> None:
    file = file_of(write(target, arrays(list(range(4, 500, 5)))))
    data = file.part(SCHEMA, rows, 0, "holdout")
    assert len(data) == rows
    assert (np.diff(data.require_trajectories())[:-1] == 4).all()
    assert data.timeouts[-1]


def test_a_part_without_an_episode_is_refused(target: Path) -> None:
    file = file_of(write(target, arrays([4])))
    with pytest.raises(ValueError, match=r"data\.hdf5: no episode falls to (holdout|reference); add episodes, or mark where they end"):
        [file.part(SCHEMA, 10, 0, part) for part in reversed(PARTS)]


# Where the file comes from


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A local stand-in for D4RL's server; gives the file it serves. The cache folder is empty."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    served = tmp_path / "served" / d4rl.FILES["maze2d-umaze-dense-v1"]
    served.parent.mkdir(parents=True)
    write(served, arrays([2, 5, 9]))
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served")))
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(d4rl, "BASE_URL", f"http://127.0.0.1:{http.server_port}/")
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield served
    http.shutdown()
    http.server_close()
    thread.join()


def test_a_download_is_cached_and_its_checksum_recorded(server: Path, tmp_path: Path) -> None:
    path = D4rlFile("maze2d-umaze-dense-v1").locate()
    assert path == tmp_path / "cache" / "maze2d-umaze-dense-v1.hdf5"
    recorded = path.with_name("maze2d-umaze-dense-v1.hdf5.sha256").read_text()
    assert recorded.split() == [hashlib.sha256(server.read_bytes()).hexdigest(), path.name]
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, f"{path.name}.sha256"]
    server.unlink()
    assert D4rlFile("maze2d-umaze-dense-v1").locate() == path


def test_a_file_that_changed_after_its_download_is_refused(server: Path) -> None:
    path = D4rlFile("maze2d-umaze-dense-v1").locate()
    write(path, arrays([3, 6, 8]))
    with pytest.raises(ValueError, match=r"its sha256 is \w{64}, not \w{64}; remove the file"):
        D4rlFile("maze2d-umaze-dense-v1").locate()


def test_an_explicit_checksum_holds_any_file_to_it(target: Path) -> None:
    digest = hashlib.sha256(write(target, arrays([2])).read_bytes()).hexdigest()
    assert D4rlFile("maze2d-umaze-dense-v1", str(target), digest.upper()).locate() == target
    with pytest.raises(ValueError, match=f"its sha256 is {digest}, not {'0' * 64}"):
        D4rlFile("maze2d-umaze-dense-v1", str(target), "0" * 64).locate()


def test_no_network_is_one_sentence_with_the_place_for_the_file(server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(d4rl, "BASE_URL", "http://127.0.0.1:1/")
    with pytest.raises(
        FileNotFoundError, match=r"maze2d-umaze-dense-v1\.hdf5 cannot be downloaded: .*; put the file at .*cache.* or name one with path="
    ) as caught:
        D4rlFile("maze2d-umaze-dense-v1").locate()
    assert "\n" not in str(caught.value)
    assert "HTTPConnection" not in str(caught.value)
    assert not list((tmp_path / "cache").iterdir())


def test_a_missing_page_leaves_nothing_behind(server: Path, tmp_path: Path) -> None:
    server.unlink()
    with pytest.raises(FileNotFoundError, match="404"):
        D4rlFile("maze2d-umaze-dense-v1").locate()
    assert not list((tmp_path / "cache").iterdir())


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"path: there is no file .*nowhere\.hdf5; correct path=, as in ENVIRONMENT"):
        D4rlFile("maze2d-umaze-dense-v1", str(tmp_path / "nowhere.hdf5")).locate()
