"""What made a set of embeddings: two sets can be compared only where this agrees."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bt_cli.errors import BrokenIndex, IndexMismatch
from bt_cli.files.block_sums import WAY_OUT

MOST_DIMENSIONS = 1 << 20


@dataclass(frozen=True)
class Identity:
    """The checkpoint, preprocessing and precision that made embeddings."""

    checkpoint: str
    """The name or path that the user gave."""
    fingerprint: str
    """Of the checkpoint's tensors."""
    preprocessing: str
    """Fingerprint of the image processor: another size or crop makes other embeddings."""
    dimension: int
    precision: str
    """What the network computed in (`float32`, `bfloat16`, `int8`). Recorded, never a reason to refuse."""

    def require(self, other: Identity, what: str) -> None:
        """Refuse embeddings that `other` makes beside those of `self`, which `what` (an index, by name) holds.

        Raises:
            IndexMismatch: Another checkpoint, preprocessing or dimension; names both and the way out.
        """
        if self.fingerprint != other.fingerprint:
            mine, theirs = self.checkpoint, other.checkpoint
            if mine == theirs:
                mine, theirs = f"{mine} ({self.fingerprint[:12]})", f"{theirs} ({other.fingerprint[:12]})"
            difference = f"made by checkpoint {mine}, not {theirs}"
        elif self.dimension != other.dimension:
            difference = f"made with {self.dimension} dimensions, not {other.dimension}"
        elif self.preprocessing != other.preprocessing:
            difference = f"made with preprocessing {self.preprocessing}, not {other.preprocessing}"
        else:
            return
        raise IndexMismatch(
            f"{what}: {difference}; use --model {self.checkpoint}, or bt index --rebuild to encode everything again"
        )

    def to_dict(self) -> dict[str, Any]:
        """As the manifest keeps it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Identity:
        """The reverse of `to_dict`.

        Raises:
            BrokenIndex: A field is missing or no such value.
        """
        try:
            texts = {name: fields[name] for name in ("checkpoint", "fingerprint", "preprocessing", "precision")}
            dimension = fields["dimension"]
        except (KeyError, TypeError) as error:
            raise BrokenIndex(f"the index does not say what made it: {error!r}; {WAY_OUT}") from error
        wrong = [name for name, value in texts.items() if not isinstance(value, str)]
        if wrong or not isinstance(dimension, int) or not 0 < dimension <= MOST_DIMENSIONS:
            raise BrokenIndex(f"the index does not say what made it: no {(wrong or ['dimension'])[0]}; {WAY_OUT}")
        return cls(dimension=dimension, **texts)
