"""The `bench` script, and `python -m bench`: whoever stops it, from its first moment on, gets one line and exit code 130."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from bench.cli import main as command_line  # here, since Ctrl-C may come before all of it is imported

        command_line()
    except KeyboardInterrupt as stopped:
        sys.stderr.write("\nStopped. What finished is stored; run the same command again to continue.\n")
        raise SystemExit(130) from stopped


if __name__ == "__main__":
    main()
