"""What torch would choose, foretold without it."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest
import torch

from bt_cli.inference import engine
from bt_cli.inference.device import choose_device
from bt_cli.inference.engine import Engine, foreseen_engine
from bt_cli.packed.precision import choose_precision

LINUX = "linux"


def on_a_machine(
    monkeypatch: pytest.MonkeyPatch,
    *,
    platform: str = LINUX,
    built: str = "2.9.0",
    driver: bool,
    flags: set[str],
    onednn: bool | None = None,
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: built)
    monkeypatch.setattr("os.path.exists", lambda path: driver)
    monkeypatch.setattr(engine, "usable_flags", lambda: frozenset(flags))
    monkeypatch.setattr(engine, "_built_with_onednn", lambda: onednn)


@pytest.mark.parametrize(
    ("machine", "asked", "foreseen"),
    [
        ({"driver": False, "flags": {"avx2"}}, ("auto", "auto"), Engine("cpu", "float32")),
        ({"driver": True, "flags": {"avx2"}}, ("auto", "auto"), None),
        ({"driver": True, "flags": {"avx2"}, "built": "2.9.0+cpu"}, ("auto", "auto"), Engine("cpu", "float32")),
        ({"driver": True, "flags": {"avx2"}}, ("cpu", "auto"), Engine("cpu", "float32")),
        ({"driver": False, "flags": {"avx512_bf16"}}, ("cpu", "auto"), None),
        ({"driver": False, "flags": {"avx512_bf16"}, "onednn": True}, ("auto", "auto"), Engine("cpu", "bfloat16")),
        ({"driver": False, "flags": {"amx_bf16"}, "onednn": False}, ("auto", "auto"), Engine("cpu", "float32")),
        ({"driver": True, "flags": {"amx_bf16"}, "onednn": True}, ("auto", "auto"), None),
        ({"driver": False, "flags": {"amx_bf16"}}, ("cpu", "bfloat16"), Engine("cpu", "bfloat16")),
        ({"driver": False, "flags": set()}, ("auto", "int8"), Engine("cpu", "int8")),
        ({"driver": False, "flags": set()}, ("auto", "float8"), None),
        ({"driver": False, "flags": set()}, ("cuda:0", "auto"), None),
        ({"driver": False, "flags": set(), "platform": "darwin"}, ("auto", "auto"), None),
    ],
)
def test_only_what_is_certain_is_foretold(
    monkeypatch: pytest.MonkeyPatch, machine: dict[str, object], asked: tuple[str, str], foreseen: Engine | None
) -> None:
    on_a_machine(monkeypatch, **machine)  # type: ignore[arg-type]
    assert foreseen_engine(*asked) == foreseen


def test_a_torch_of_unknown_origin_speaks_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    on_a_machine(monkeypatch, driver=False, flags=set())
    monkeypatch.setattr(importlib.metadata, "version", unknown)
    assert foreseen_engine("auto", "auto") is None


def test_torch_was_built_as_its_header_says() -> None:
    assert engine._built_with_onednn() == torch.backends.mkldnn.is_available()


@pytest.mark.parametrize(
    ("header", "built"),
    [
        ("#define AT_MKLDNN_ENABLED() 1\n#define AT_MKLDNN_ACL_ENABLED() 0\n", True),
        ("#define AT_MKLDNN_ENABLED() 0\n", False),
        ("#define AT_MKLDNN_ENABLED() @AT_MKLDNN_ENABLED@\n", None),
        (None, None),
    ],
)
def test_a_header_that_says_nothing_leaves_it_to_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str | None, built: bool | None
) -> None:
    (tmp_path / "torch" / "include" / "ATen").mkdir(parents=True)
    (tmp_path / "torch" / "__init__.py").touch()
    if header is not None:
        (tmp_path / "torch" / "include" / "ATen" / "Config.h").write_text(header)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.syspath_prepend(tmp_path)
    assert engine._built_with_onednn() is built


@pytest.mark.parametrize("device", ["auto", "cpu"])
@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", "int8"])
def test_here_torch_chooses_what_was_foretold(device: str, dtype: str) -> None:
    foreseen = foreseen_engine(device, dtype)
    place = choose_device(device) if foreseen is not None else torch.device("cpu")
    assert foreseen is None or foreseen == (str(place), choose_precision(dtype, place))
