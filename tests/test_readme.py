"""What the README shows is what the project has."""

from importlib import resources
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_one_file_example_is_the_one_that_bench_new_writes() -> None:
    assert resources.files("bench").joinpath("example.py").read_text() in README.read_text()
