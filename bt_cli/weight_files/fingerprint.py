"""A checkpoint's fingerprint: the same for the same weights in any file format, another as soon as they are trained on.

Hashing 3.5 GB at every start would cost seconds, so large tensors are sampled: names, shapes and dtypes of all
tensors, every byte of the small ones (LayerNorms and biases, which any training step moves) and windows spread over
each large one. A change that spares all of these, one weight edited by hand, say, goes unseen; training, merging,
casting or swapping checkpoints does not.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from bt_cli.weight_files.safetensors_file import TensorEntry
from bt_cli.weight_files.tensor_files import TensorFiles

WHOLE_BYTES = 16 << 10
WINDOWS = 8
WINDOW_BYTES = 64


def fingerprint(files: TensorFiles, names: dict[str, str], settings: dict[str, Any]) -> str:
    """16 hex digits over the tensors in `names` (canonical name to name in the file) and `settings` (plain JSON)."""
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8)
    for canonical, name in sorted(names.items()):
        entry = files.entries[name]
        digest.update(f"\n{canonical} {entry.dtype} {entry.shape}\n".encode())
        digest.update(files.spans(name, sampled_spans(entry)))
    return digest.hexdigest()


def sampled_spans(entry: TensorEntry) -> list[tuple[int, int]]:
    """The byte ranges of a tensor that are looked at: all of a small one, windows from end to end of a large one."""
    if entry.nbytes <= WHOLE_BYTES:
        return [(0, entry.nbytes)]
    last = entry.nbytes - WINDOW_BYTES
    starts = [last * step // (WINDOWS - 1) for step in range(WINDOWS)]
    return [(start, start + WINDOW_BYTES) for start in starts]
