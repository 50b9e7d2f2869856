"""Outputs are mappings, tuples and attributes at once."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.utils import _pytree

from bt_cli.pretrained.outputs import BridgeTowerModelOutput, SequenceClassifierOutput


@pytest.fixture
def output():
    return SequenceClassifierOutput(logits=torch.eye(2), attentions=(torch.zeros(1),))


def test_every_way_to_a_value(output):
    assert torch.equal(output.logits, torch.eye(2))
    assert output["logits"] is output.logits is output[0] is output.to_tuple()[0] is output[:1][0]
    assert list(output) == list(output.keys()) == ["logits", "attentions"]
    assert len(output) == len(output.to_tuple()) == 2
    assert output.loss is None
    assert "loss" not in output
    assert isinstance(output, dict)
    with pytest.raises(KeyError):
        output["loss"]
    with pytest.raises(IndexError):
        output[2]
    with pytest.raises(AttributeError, match="no attribute 'logit'"):
        output.logit  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(TypeError, match="has no scores"):
        SequenceClassifierOutput(scores=1)


def test_it_can_be_written_to(output):
    output.loss = torch.tensor(1.0)
    assert output["loss"] is output.loss
    output.loss = None
    assert "loss" not in output


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies(output, twin):
    again = twin(output)
    assert type(again) is SequenceClassifierOutput
    assert torch.equal(again.logits, output.logits)
    assert list(again) == list(output)


def test_torch_sees_through_it(output):
    doubled = _pytree.tree_map(lambda tensor: 2 * tensor, output)
    assert type(doubled) is SequenceClassifierOutput
    assert torch.equal(doubled.logits, 2 * torch.eye(2))


def test_names_are_in_the_documented_order():
    names = ("text_features", "image_features", "pooler_output", "hidden_states", "attentions")
    assert BridgeTowerModelOutput.names == names
