"""The processor's flags and name, as the kernel and the user's settings say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bt_cli.packed import processor
from bt_cli.packed.processor import processor_flags, processor_name, usable_flags


@pytest.mark.parametrize(
    ("held_to", "usable"),
    [
        (None, {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16"}),
        ("ALL", {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16"}),
        ("AVX512_CORE_AMX", {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16"}),
        ("AVX512_CORE_BF16", {"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}),
        ("AVX512_CORE_VNNI", {"avx2", "avx512f", "avx512_vnni"}),
        ("avx512_core", {"avx2", "avx512f"}),
        ("AVX2", {"avx2"}),
    ],
)
def test_what_onednn_may_not_use_is_not_counted_on(
    monkeypatch: pytest.MonkeyPatch, held_to: str | None, usable: set[str]
) -> None:
    every = frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16"})
    monkeypatch.setattr(processor, "processor_flags", lambda: every)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if held_to is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", held_to)
    assert usable_flags() == usable


def test_flags_and_name_are_read_from_cpuinfo(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: A Fine One\nflags\t\t: fpu avx2 avx512_bf16\n\nprocessor\t: 1\n")
    assert processor_flags(file) == {"fpu", "avx2", "avx512_bf16"}
    assert processor_name(file) == "A Fine One"


def test_without_cpuinfo_torch_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    flags = processor_flags(tmp_path / "none")
    assert "avx512_bf16" in flags
    assert "amx_bf16" not in flags
