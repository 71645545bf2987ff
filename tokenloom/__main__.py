"""`python -m tokenloom` and the `tokenloom` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit; an interrupt while it is imported is no traceback either."""
    try:
        from tokenloom.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit("Interrupted. Nothing was left running or half-written.")
    run()


if __name__ == "__main__":
    main()
