"""Which numbers are computed in, by the processor's flags."""

from __future__ import annotations

import pytest
import torch

from bt_cli.errors import Misuse, NoDevice
from bt_cli.inference.device import choose_device, set_threads
from bt_cli.packed import precision
from bt_cli.packed.precision import activation_dtype, choose_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        ({"avx2", "avx512_vnni", "avx512_bf16"}, "bfloat16"),
        ({"avx512_bf16", "amx_bf16", "amx_tile"}, "bfloat16"),
        ({"avx2", "avx512_vnni"}, "float32"),
        ({"avx2"}, "float32"),
        (set(), "float32"),
    ],
)
def test_auto_follows_the_processor(monkeypatch: pytest.MonkeyPatch, flags: set[str], chosen: str) -> None:
    monkeypatch.setattr(precision, "usable_flags", lambda: frozenset(flags))
    monkeypatch.setattr(precision, "onednn_here", lambda: True)
    assert choose_precision("auto", CPU) == chosen
    kept = torch.bfloat16 if chosen == "bfloat16" else torch.float32
    assert activation_dtype("int8", CPU) == kept


def test_without_onednn_auto_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "usable_flags", lambda: frozenset({"avx512_bf16"}))
    monkeypatch.setattr(precision, "onednn_here", lambda: False)
    assert choose_precision("auto", CPU) == "float32"


def test_int8_stays_on_the_cpu() -> None:
    with pytest.raises(NoDevice, match="int8 runs on the CPU only; on cuda:0 use --dtype bfloat16"):
        choose_precision("int8", torch.device("cuda:0"))


def test_unknown_precision_is_named() -> None:
    with pytest.raises(NoDevice, match="'float8' is no precision; there are auto, float32, bfloat16, int8"):
        choose_precision("float8", CPU)


def test_devices_are_chosen_or_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    assert choose_device("cpu") == CPU
    for name, reason in (
        ("cuda", "cuda: no CUDA device here"),
        ("cuda:1", "cuda:1: no CUDA device here"),
        ("mps", "no MPS device"),
        ("meta", "bt does not run on 'meta'"),
        ("gpu", "'gpu' is no device"),
    ):
        with pytest.raises(NoDevice, match=reason):
            choose_device(name)


def test_cuda_device_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert choose_device("cuda") == torch.device("cuda:1")
    assert choose_device("auto") == torch.device("cuda:1")
    with pytest.raises(NoDevice, match="cuda:2: this machine has 2 CUDA device"):
        choose_device("cuda:2")


def test_more_threads_than_openmp_could_start_are_refused() -> None:
    with pytest.raises(
        Misuse, match="--threads 1000000000 is more than 1,024; no more than there are cores are of use"
    ):
        set_threads(1_000_000_000)
