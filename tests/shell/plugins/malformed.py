"""An environment whose file is broken, as a loader would find it."""

from dataclasses import dataclass

from bench import register
from bench.envs.toy import Toy


@register("environments", "malformed")
@dataclass(frozen=True)
class Malformed(Toy):
    def dataset(self, rows, seed, part):
        raise ValueError("rewards: 3 values are NaN; mend the file or leave this environment out")
