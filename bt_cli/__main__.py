"""`python -m bt_cli`: the same as `bt`."""

from __future__ import annotations

import sys

from bt_cli.commands.app import main

if __name__ == "__main__":
    sys.exit(main())
