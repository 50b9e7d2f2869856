"""What the processors return: a mapping of arrays with attributes and `.to(device)`."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bt_cli.errors import Misuse

if TYPE_CHECKING:
    from typing import Self


class BatchFeature(UserDict):
    """`batch["pixel_values"]` is `batch.pixel_values`; `model(**batch)` and `batch.to("cuda")` work.

    The plain dictionary is `batch.data`.
    """

    def __init__(self, data: Mapping[str, Any] | None = None, tensor_type: str | None = None, **more: Any) -> None:
        """Takes the values of `data`, turned into `tensor_type` as `convert_to_tensors` says."""
        super().__init__(data, **more)
        self.convert_to_tensors(tensor_type)

    def __getattr__(self, name: str) -> Any:
        data = self.__dict__.get("data", {})
        if name in data:
            return data[name]
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}; it has {', '.join(data) or 'none'}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.data})

    def convert_to_tensors(self, tensor_type: str | None = None) -> Self:
        """Makes of each value, in place, one torch tensor ("pt") or numpy array ("np"); None leaves all as they are.

        Raises:
            Misuse: Another `tensor_type`, or rows of unequal length.
        """
        kind = tensor_kind(tensor_type)
        if kind is None:
            return self
        for name, value in self.data.items():
            if _is_whole(value, kind):
                continue
            try:
                array = np.stack([np.asarray(each) for each in value]) if len(value) else np.asarray(value)
            except ValueError:
                way = "do_pad=True" if name.startswith("pixel") else "padding=True (and truncation=True)"
                raise Misuse(f"{name} has rows of unequal size, which are no one tensor; pass {way}") from None
            if not array.size and not any(isinstance(each, np.ndarray) for each in value):
                array = array.astype(np.int64)  # rows without a token: numpy makes real numbers of nothing
            self.data[name] = _tensor(array) if kind == "pt" else array
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Moves the tensors to a device and, where a dtype is given, those of real numbers to it; ids stay integers.

        Takes what `torch.Tensor.to` takes: `batch.to("cuda")`, `batch.to(torch.bfloat16)`, `batch.to("cuda",
        torch.bfloat16, non_blocking=True)`. Changes the batch itself and returns it. What is no tensor stays.
        """
        import torch

        dtype = kwargs.get("dtype", next((each for each in args if isinstance(each, torch.dtype)), None))
        places = (str, int, torch.device)
        device = kwargs.get("device", next((each for each in args if isinstance(each, places)), None))
        if any(not isinstance(each, (torch.dtype, *places)) for each in args):
            raise Misuse(f"to(): {args[0]!r:.100} is neither a device nor a dtype")
        non_blocking = bool(kwargs.get("non_blocking", False))

        def moved(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                wanted = dtype if value.is_floating_point() else None
                return value.to(device=device, dtype=wanted, non_blocking=non_blocking)
            return type(value)(map(moved, value)) if isinstance(value, (list, tuple)) else value

        self.data = {name: moved(value) for name, value in self.data.items()}
        return self


def tensor_kind(tensor_type: Any) -> str | None:
    """ "pt", "np" or None, from a name or an enumeration's member that has one. Raises Misuse for another."""
    kind = getattr(tensor_type, "value", tensor_type)
    if kind not in (None, "pt", "np"):
        raise Misuse(f'return_tensors is {kind!r:.100}; "pt" (torch), "np" (numpy) or None is needed')
    return kind


def _is_whole(value: Any, kind: str) -> bool:
    """Whether a value is of the wanted kind already, or nothing that could be."""
    if kind == "np":
        return isinstance(value, np.ndarray) or not isinstance(value, (list, tuple))
    import torch

    return isinstance(value, torch.Tensor) or not isinstance(value, (list, tuple, np.ndarray))


def _tensor(array: Any) -> Any:
    import torch

    return torch.from_numpy(array)
