"""bt beside transformers: `python -m benchmarks.speed [--full] [--threads N] [--json FILE]`.

Both run on the same random-weight checkpoint of the official base shape, the same pixels, ids, threads and processors,
in turn, each in a process of its own. Printed are medians over the rounds, the medians of each round's ratio, and the
processor's own rate for linear layers, measured between the same rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

import torch

from benchmarks.base_checkpoint import base_checkpoint
from benchmarks.engines import Engine
from benchmarks.linear_rate import gflops
from bt_cli.packed.precision import choose_precision
from bt_cli.packed.processor import processor_name, usable_flags

PRECISIONS = ("float32", "bfloat16", "int8")
TOWER_IMAGES = 8
TOWER_GFLOP = 55.5
"""Products of the base vision tower for one image of 288 x 288: patches, and twelve blocks of all 325 rows."""

SHOWN_FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")

# Names of the rows, the port's task that they are compared with, ours, and how many images (and texts) in a round.
ROWS: dict[str, tuple[str, str, int, int]] = {
    "image embeddings": ("embed", "embed", 4, 16),
    "ITM, 1 text x N images": ("pairs", "pairs", 8, 64),
    "ITM, 1 text x N images, cached": ("pairs", "cached", 8, 64),
    "ITM, N texts x N images": ("pairs", "grid", 6, 32),
}


def targets(flags: frozenset[str]) -> dict[str, tuple[float, ...]]:
    """What each row should reach in bfloat16 (float32 where there is none) and in int8, by kind of processor."""
    if "amx_bf16" in flags:
        return dict(zip(ROWS, ((12.0,), (8.0,), (20.0,), (18.0,)), strict=True))
    if "avx512_bf16" in flags:
        return dict(zip(ROWS, ((3.8, 6.0), (2.6, 4.0), (7.0, 11.0), (6.0, 9.0)), strict=True))
    return dict(zip(ROWS, ((2.0,), (1.25,), (3.2,), (3.2,)), strict=True))


def measure(precisions: list[str], threads: int, rounds: int, full: bool) -> dict[str, Any]:
    """Seconds per pair (or image) for each row and side, round by round; and the linear rates."""
    folder = base_checkpoint()
    torch.set_num_threads(threads)
    sides = {side: Engine(side, folder, threads) for side in ("port", *precisions)}
    times: dict[str, dict[str, list[float]]] = {row: {side: [] for side in sides} for row in [*ROWS, "vision tower"]}
    rates: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    port_pairs = 4
    for precision in precisions:  # what is to be cached is encoded before the clock runs
        sides[precision].seconds("cached", ROWS["ITM, 1 text x N images, cached"][3 if full else 2])
    for _ in range(rounds):
        for name, rate in gflops(rounds=3).items():
            rates[name].append(rate)
        port: dict[str, float] = {}
        for row, (port_task, task, few, many) in ROWS.items():
            if port_task not in port:
                port[port_task] = sides["port"].seconds(port_task, port_pairs) / port_pairs
            times[row]["port"].append(port[port_task])
            count = many if full else few
            done = count * count if task == "grid" else count
            for precision in precisions:
                times[row][precision].append(sides[precision].seconds(task, count) / done)
        for precision in precisions:
            times["vision tower"][precision].append(sides[precision].seconds("tower", TOWER_IMAGES) / TOWER_IMAGES)
    for engine in sides.values():
        engine.close()
    return {"times": times, "rates": {name: statistics.median(values) for name, values in rates.items()}}


def ratio(times: dict[str, list[float]], precision: str) -> float:
    """How many times faster than the port: the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(times["port"], times[precision], strict=True))


def show(result: dict[str, Any], precisions: list[str], full: bool, flags: frozenset[str]) -> None:
    """Print the tables."""
    times, rates = result["times"], result["rates"]
    print("\nlinear layers, 768 x 3072, GFLOP/s: " + ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items()))
    best = targets(flags)
    print(f"\n{'milliseconds a pair or image':38}{'port':>9}" + "".join(f"{name:>24}" for name in precisions))
    for row, (_, _, few, many) in ROWS.items():
        cells = ""
        for precision in precisions:
            wanted = dict(zip(("bfloat16" if "bfloat16" in precisions else "float32", "int8"), best[row], strict=False))
            goal = f"/{wanted[precision]:g}" if precision in wanted else ""
            value = 1e3 * statistics.median(times[row][precision])
            cells += f"{value:>10.0f} {f'{ratio(times[row], precision):.2f}x{goal}':>13}"
        named = row.replace("N", str(many if full else few))
        print(f"{named:38}{1e3 * statistics.median(times[row]['port']):>9.0f}{cells}")
    cells = ""
    for precision in precisions:
        seconds = statistics.median(times["vision tower"][precision])
        share = TOWER_GFLOP / seconds / rates[precision]
        cells += f"{1e3 * seconds:>10.0f} {f'{share:.2f} of rate':>13}"
    print(f"{'vision tower, all rows':38}{'':>9}{cells}")
    print("\nratios are times the port in float32, median over the rounds; /x is the goal")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="64 images and 32 x 32 pairs a round, as the goals are put")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, help="default: 3, with --full 5")
    parser.add_argument("--precisions", help="default: float32, what auto chooses, and int8")
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    asked = parser.parse_args()
    flags = usable_flags()
    auto = choose_precision("auto", torch.device("cpu"))
    precisions = asked.precisions.split(",") if asked.precisions else list(dict.fromkeys(("float32", auto, "int8")))
    rounds = asked.rounds or (5 if asked.full else 3)
    shown = " ".join(flag for flag in SHOWN_FLAGS if flag in flags)
    print(f"{processor_name()} ({shown}), {asked.threads} thread(s) on processors {sorted(os.sched_getaffinity(0))}")
    print(f"torch {torch.__version__}, {rounds} rounds, {TOKENS_NOTE}")
    result = measure(precisions, asked.threads, rounds, asked.full)
    show(result, precisions, asked.full, flags)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1))


TOKENS_NOTE = "16 tokens a text, images of 288 x 288, no decoding"

if __name__ == "__main__":
    main()
