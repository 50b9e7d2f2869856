"""One `pytorch_model.bin`: a pickle of named tensors, opened so that it runs no code, read only where asked."""

from __future__ import annotations

import contextlib
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from bt_cli.errors import BrokenCheckpoint, UnsafePickle
from bt_cli.weight_files.safetensors_file import DTYPE_CODES, TensorEntry, opened, refuse_pointer

if TYPE_CHECKING:
    import torch

# Pages of a mapping count as the process's own memory once read, so the mapping is dropped and made anew after this
# much.
_REMAP_AFTER_BYTES = 64 << 20

# What tensors are made of; anything else that a refused pickle names is worth telling.
_HARMLESS_MODULES = ("torch", "torch._utils", "torch.storage", "collections", "torch.nn.parameter")

# Of a zip file and of a pickle since protocol 2, the forms in which torch saves.
_FIRST_BYTES = (b"PK", b"\x80")


class PickleFile:
    """The tensors of one file written by `torch.save`.

    Files in the zip format (torch 1.6 and later) are memory-mapped; older ones have to be read whole. Raises
    `UnsafePickle` for a file that asks for anything but tensors, `BrokenCheckpoint` for one that can't be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tensors: Mapping[str, torch.Tensor] | None = None
        self._bytes_read = 0
        self._whole = not is_archive(path)
        self.entries: dict[str, TensorEntry] = {}
        for name, tensor in self._mapping().items():
            code = DTYPE_CODES.get(str(tensor.dtype).removeprefix("torch."))
            if code is None:
                raise BrokenCheckpoint(f"{path}: {name} is stored as {tensor.dtype}, which bt does not read")
            self.entries[name] = TensorEntry(tuple(tensor.shape), code)

    def read_into(self, name: str, destination: torch.Tensor) -> None:
        """Fill `destination`, contiguous and of the same number of elements, any floating dtype and device."""
        source = self._mapping()[name]
        destination.detach().view(source.shape).copy_(source.detach())
        self._count(self.entries[name].nbytes)

    def spans(self, name: str, spans: Sequence[tuple[int, int]]) -> bytes:
        """The bytes of the tensor between the given offsets, one span after another."""
        import torch

        flat = self._mapping()[name].detach().contiguous().reshape(-1).view(torch.uint8)
        return b"".join(flat[first:last].numpy().tobytes() for first, last in spans)

    def _mapping(self) -> Mapping[str, torch.Tensor]:
        if self._tensors is None:
            self._tensors = _named_tensors(self.path, load_pickle(self.path, mapped=not self._whole))
        return self._tensors

    def _count(self, nbytes: int) -> None:
        self._bytes_read += nbytes
        if self._bytes_read >= _REMAP_AFTER_BYTES and not self._whole:
            self._tensors, self._bytes_read = None, 0


def is_archive(path: Path) -> bool:
    """Whether the file is in torch's zip format. Raises `BrokenCheckpoint` for a pipe or a device."""
    with opened(path) as file:
        return zipfile.is_zipfile(file)


def load_pickle(path: Path, *, mapped: bool) -> Any:
    """What `torch.load` makes of the file on the CPU without running any code; `mapped` leaves tensors on disk."""
    import torch

    with opened(path) as file:
        refuse_pointer(path, file.read(8))
        _refuse_compressed(path, file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's remarks on pickle protocols
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError:
        raise
    except pickle.UnpicklingError as error:
        asked = _forbidden_globals(path)
        if asked:
            raise UnsafePickle(
                f"{path} asks to run {', '.join(asked)} when opened; refused. Ask its author for safetensors"
            ) from None
        raise BrokenCheckpoint(_broken(path, error)) from None
    except (
        Exception
    ) as error:  # torch reports a broken file as RuntimeError, OSError, EOFError, KeyError, UnicodeError...
        raise BrokenCheckpoint(_broken(path, error)) from None


def _refuse_compressed(path: Path, file: BinaryIO) -> None:
    """Refuse an archive that unpacks to more than it has: torch stores, and would unpack a small file to any size."""
    with contextlib.suppress(zipfile.BadZipFile, ValueError, NotImplementedError), zipfile.ZipFile(file) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise BrokenCheckpoint(f"{path} is compressed, as torch writes none; ask its author for safetensors")


def _named_tensors(path: Path, content: Any) -> Mapping[str, torch.Tensor]:
    if isinstance(content, Mapping) and "state_dict" in content:
        raise BrokenCheckpoint(f"{path} is a Lightning file; turn it into a checkpoint with `bt models convert`")
    if not isinstance(content, Mapping) or not holds_named_tensors(content):
        raise BrokenCheckpoint(f"{path} holds no dictionary of tensors by name")
    want_plain(path, content)
    return content


def holds_named_tensors(content: Mapping[Any, Any]) -> bool:
    """Whether all keys are strings and all values tensors."""
    import torch

    return all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in content.items())


def want_plain(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise `BrokenCheckpoint` for a tensor that is sparse, was saved without its values, or repeats a few of them."""
    import torch

    for name, tensor in tensors.items():
        if tensor.is_meta or tensor.layout != torch.strided:
            what = "without its values" if tensor.is_meta else "sparse, which bt does not read"
            raise BrokenCheckpoint(f"{path}: {name} is stored {what}; ask its author for safetensors")
        # Strides of 0 make a tensor of any size out of one number, and its first copy takes all memory.
        stored = tensor.untyped_storage().nbytes()
        if tensor.numel() * tensor.element_size() > stored:
            what = f"claims {tensor.numel():,} numbers, but {stored:,} bytes are stored"
            raise BrokenCheckpoint(f"{path}: {name} {what}; ask its author for safetensors")


def _forbidden_globals(path: Path) -> list[str]:
    """The functions and classes that the pickle names and tensors have no need of, found without running it."""
    import torch

    if is_archive(path):
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    found: set[str] = set()
    strings: list[str] = []
    whole = False
    try:
        with open(path, "rb") as file:
            while True:  # the older format is several pickles in a row
                for opcode, argument, _ in pickletools.genops(file):
                    if opcode.name in ("GLOBAL", "INST"):
                        found.add(str(argument).replace(" ", "."))
                    elif opcode.name == "STACK_GLOBAL":
                        found.add(".".join(strings[-2:]))
                    elif isinstance(argument, str):
                        strings.append(argument)
                whole = True
    except Exception:  # the end of the pickles, or what is none
        pass
    if not whole:  # no pickle at all: the letters of a text can look like names that it asks for
        return []
    return sorted(name for name in found if name.rpartition(".")[0] not in _HARMLESS_MODULES)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "documentation" not in line]
    return (telling or lines or [type(error).__name__])[-1][:200]


def _broken(path: Path, error: BaseException) -> str:
    """What is wrong with a file that torch can't open, and the way out."""
    with open(path, "rb") as file:
        start = file.read(8)
    if not any(form.startswith(start[: len(form)]) for form in _FIRST_BYTES):
        return f"{path} holds no weights: it is neither one of torch's files nor safetensors"
    return f"{path} is broken or cut short ({_last_line(error)}); get it again"
