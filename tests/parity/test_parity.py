"""The parity table's small configurations as tests, and the proof that the table notices faults."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

from benchmarks.parity.__main__ import line
from benchmarks.parity.comparison import LIMITS, compare, make_inputs
from benchmarks.parity.faults import FAULTS
from benchmarks.parity.literal import Literal
from benchmarks.parity.port import PortModel
from benchmarks.parity.variants import ALL, SMALL, Variant, small

BY_NAME = {variant.name: variant for variant in SMALL}


@pytest.mark.parametrize("variant", SMALL, ids=BY_NAME)
def test_the_network_computes_what_the_port_computes(variant: Variant, tmp_path: Path) -> None:
    rows = list(compare(variant, tmp_path))
    assert {row.way for row in rows} >= {"safetensors", "pytorch_model.bin", "for training"}
    assert {row.head for row in rows} == {"none", "ITM", "MLM", "ITC"}
    assert ("saved by bt" in {row.way for row in rows}) == (variant.beyond_port != ALL)
    assert [line([row]) for row in rows if not row.agrees] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(fault: str, tmp_path: Path) -> None:
    rows = list(compare(BY_NAME["plain"], tmp_path, fault=fault))
    failed = {row.head for row in rows if not row.agrees}
    assert failed == ({"ITC"} if fault == "itc-heads" else {"none", "ITM", "MLM", "ITC"})


LITERALLY = ["plain", "scaled_add", "interpolate", "deeper vision tower", "oblong pictures", "one cross layer"]


@pytest.mark.parametrize("name", [*LITERALLY, "other epsilons and activations"])
def test_the_literal_computation_is_the_ports_too(name: str) -> None:
    variant = BY_NAME[name]
    inputs = make_inputs(variant, 5)
    port = PortModel(variant, 5)
    expected = port.outputs(inputs)
    literal = Literal(variant.config, port.tensors()).outputs(inputs)
    real = inputs["attention_mask"].bool()
    assert set(expected) == set(literal) == set(LIMITS)
    for output, limit in LIMITS.items():
        ours, ports = literal[output], expected[output]
        if output in ("text_features", "mlm_logits"):
            ours, ports = ours[real], ports[real]
        assert (ours - ports).abs().max().item() <= limit, output


def test_the_port_still_fails_where_the_literal_computation_stands_in() -> None:
    """Should the port learn one of these, it becomes the better witness."""
    shared = Variant("shared links", small(share_link_tower_layers=True))
    wider = Variant("wider", small(vision_config={"hidden_size": 128}))
    own = Variant("own transforms", small(share_cross_modal_transformer_layers=False))
    for variant in (shared, wider, own):
        with pytest.raises((TypeError, RuntimeError, AttributeError, NotImplementedError)):
            PortModel(variant, 0).outputs(make_inputs(variant, 0))


def test_nan_agrees_with_nothing() -> None:
    from benchmarks.parity.comparison import Row

    assert not Row("x", "ITM", "safetensors", "port", float("nan"), 1e-4).agrees
    assert Row("x", "ITM", "safetensors", "port", 1e-4, 1e-4).agrees


def test_every_parameter_of_the_port_is_drawn_to_matter() -> None:
    tensors = PortModel(BY_NAME["interpolate"], 0).tensors()
    for name, tensor in tensors.items():
        assert torch.isfinite(tensor).all(), name
        assert tensor.abs().max() > 0, name
        if tensor.numel() > 1:
            assert tensor.std() > 0.01, name
