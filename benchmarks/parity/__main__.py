"""`make parity`: the network against transformers' port, and against a literal computation where the port gives up.

Each configuration becomes a checkpoint of random weights, made with the port and saved as safetensors and as
pytorch_model.bin; `bt_cli.load` reads both; the network as training sees it is compared too, and saved by bt for the
port to load. The table has the largest absolute difference of each head's outputs in float32 ("none": hidden states
and pooler), by the way that the weights went. Exit code 1 when one is above its limit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.parity.comparison import Row, compare
from benchmarks.parity.faults import FAULTS
from benchmarks.parity.variants import OFFICIAL, SMALL

WAYS = ("safetensors", "pytorch_model.bin", "for training", "saved by bt")
LINE = "{:<29} {:<5} {:<13} {:>12} {:>18} {:>13} {:>12} {:>6}  {}"


def main() -> int:
    """Print the table; 0 when everything agrees."""
    options = _options()
    variants = [variant for variant in SMALL + OFFICIAL if not (options.small and variant.official)]
    variants = [variant for variant in variants if options.only in variant.name]
    _quieten()
    print(LINE.format("config", "head", "against", *WAYS, "limit", "verdict"), flush=True)
    rows: list[Row] = []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="parity-", dir=options.folder) as folder:
        for variant in variants:
            found = list(compare(variant, Path(folder), fault=options.fault, seed=options.seed))
            for head in dict.fromkeys(row.head for row in found):
                print(line([row for row in found if row.head == head]), flush=True)
            rows += found
    failed = sum(not row.agrees for row in rows)
    print(f"{len(rows)} comparisons, {failed} failed, {time.perf_counter() - started:.0f} s")
    return 1 if failed or not rows else 0


def line(rows: list[Row]) -> str:
    """One line of the table: one head of one configuration, the largest absolute difference by each way."""
    by_way = {row.way: f"{row.difference:.1e}" for row in rows}
    first = rows[0]
    verdict = "ok" if all(row.agrees for row in rows) else "FAILS"
    differences = [by_way.get(way, "-") for way in WAYS]
    return LINE.format(first.variant, first.head, first.against, *differences, f"{first.limit:.0e}", verdict)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--small", action="store_true", help="leave out the published shapes (8 GB and minutes less)")
    parser.add_argument("--only", default="", metavar="TEXT", help="configurations whose name has TEXT in it")
    parser.add_argument("--fault", choices=sorted(FAULTS), help="plant a fault in what bt reads: it has to show")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to put checkpoints for the time being (4 GB for large)")
    return parser.parse_args()


def _quieten() -> None:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())
