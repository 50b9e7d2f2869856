"""When the packed network stands in, and that it never answers with weights that are no longer the model's."""

from __future__ import annotations

import threading

import pytest
import torch
from port_models import batch

import bt_cli
from bt_cli.pretrained import fast_network
from bt_cli.pretrained.fast_network import KnownImages


@pytest.fixture
def model(checkpoint):
    return bt_cli.BridgeTowerForImageAndTextRetrieval.from_pretrained(checkpoint)


def plain(model, **inputs) -> torch.Tensor:
    model.use_fast_network = False
    logits = model(**inputs).logits.detach()
    model.use_fast_network = True
    return logits


def used(model) -> bool:
    return model._fast._network is not None


def nearly(a: torch.Tensor, b: torch.Tensor) -> bool:
    return float((a - b).abs().max()) < 1e-4


WRITES = {
    "an optimiser": lambda model: _step(model),
    "in place": lambda model: model.itm_score.fc.weight.detach().add_(1.0),
    "through .data": lambda model: model.itm_score.fc.weight.data.add_(1.0),
    "an average through .data": lambda model: [each.data.mul_(0.9) for each in model.parameters()],
    "another tensor": lambda model: setattr(model.itm_score.fc.weight, "data", torch.ones(2, 128)),
    "another parameter": lambda model: setattr(model.itm_score.fc, "weight", torch.nn.Parameter(torch.ones(2, 128))),
    "load_state_dict": lambda model: model.load_state_dict({k: v * 1.1 for k, v in model.state_dict().items()}),
    "another dtype": lambda model: model.to(torch.bfloat16).to(torch.float32),
    "moved": lambda model: model._apply(lambda tensor: tensor.clone() * 1.2),
    "a word": lambda model: model.get_input_embeddings().weight.detach()[7].zero_(),
}


def _step(model):
    model(**batch()).logits.sum().backward()
    torch.optim.AdamW(model.parameters(), lr=0.01).step()


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_changed_weights_change_the_answer_at_once(write, model):
    before = model(**batch()).logits.detach()
    assert used(model)
    write(model)
    after = model(**batch()).logits.detach()
    assert not torch.equal(before, after)
    assert nearly(after, plain(model, **batch()))
    again = model(**batch()).logits.detach()
    assert used(model)
    assert nearly(again, after)


def test_it_is_packed_again_only_when_weights_rest(model):
    model(**batch())
    assert used(model)
    for _ in range(2):  # a training loop that looks at one batch after each step
        with torch.no_grad():
            model.itm_score.fc.bias.add_(0.1)
        model(**batch())
        assert not used(model)
    model(**batch())
    assert used(model)
    model.drop_fast_network()
    assert not used(model)


class Doubled(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, states):
        return 2 * self.inner(states)


CHANGES = {
    "a hook": lambda layer: layer.attention.self.query.register_forward_hook(lambda m, i, o: 2 * o),
    "a hook before": lambda layer: layer.output.register_forward_pre_hook(lambda m, i: (2 * i[0], i[1])),
    "a hook on a layer": lambda layer: layer.register_forward_hook(lambda m, i, o: 2 * o),
    "another module": lambda layer: setattr(layer.attention.self, "query", Doubled(layer.attention.self.query)),
    "another activation": lambda layer: setattr(layer.intermediate, "intermediate_act_fn", torch.nn.ReLU()),
    "another forward": lambda layer: setattr(layer.output.dense, "forward", lambda states: states[..., :64]),
    "one layer in training": lambda layer: layer.train(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_watches_or_replaces_a_module_takes_the_plain_network(change, model):
    before = model(**batch()).logits.detach()
    change(model.bridgetower.text_model.encoder.layer[1])
    assert not model.uses_fast_network()
    after = model(**batch()).logits.detach()
    assert not nearly(before, after)


def test_a_hook_on_every_named_module_is_called(model):
    called = set()
    for name, module in model.named_modules():
        module.register_forward_hook(lambda m, i, o, name=name: called.add(name))
    model(**batch())
    kinds = (torch.nn.ModuleList,)
    silent = {name for name, module in model.named_modules() if not isinstance(module, kinds)} - called
    held = (
        "vision_model",
        "vision_model.visual",
        "vision_model.visual.transformer",
        "text_model",
        "text_model.encoder",
    )
    unused = ("text_model.pooler", "text_model.pooler.dense", "text_model.pooler.activation")
    inner = {f"bridgetower.{name}" for name in (*held, *unused)} | {"bridgetower"}
    tables = {"bridgetower.token_type_embeddings", "bridgetower.vision_model.visual.embeddings.position_embedding"}
    dropped = {name for name in silent if name.endswith("self.dropout")}
    assert silent == inner | tables | dropped


def test_after_a_hook_is_removed_it_is_fast_again(model):
    handle = model.bridgetower.text_model.register_forward_hook(lambda m, i, o: None)
    assert not model.uses_fast_network()
    handle.remove()
    assert model.uses_fast_network()
    model.register_forward_hook(lambda m, i, o: o)  # around the model, not in it
    assert model.uses_fast_network()


def test_contexts_that_watch_torch_take_the_plain_network(model):
    from torch.utils.flop_counter import FlopCounterMode

    with torch.autocast("cpu", torch.bfloat16):
        assert not model.uses_fast_network()
    with FlopCounterMode(display=False) as counter:
        model(**batch())
    assert counter.get_total_flops() > 1e6
    parameters = {name: each.detach() * 2 for name, each in model.named_parameters()}
    doubled = torch.func.functional_call(model, parameters, (), batch()).logits
    assert not nearly(doubled, model(**batch()).logits.detach())


def test_results_can_be_used_in_every_grad_mode(model):
    with torch.inference_mode():
        assert model(**batch()).logits.is_inference()
    with torch.no_grad():
        logits = model(**batch()).logits
    assert not logits.requires_grad
    assert not logits.is_inference()
    (logits * torch.ones(2, requires_grad=True)).sum().backward()
    logits.zero_()
    assert model(**batch()).logits.requires_grad
    assert not model.requires_grad_(False)(**batch()).logits.requires_grad


def test_twins_in_a_batch_are_encoded_once(model, monkeypatch):
    inputs = batch(4)
    inputs["pixel_values"][1:] = inputs["pixel_values"][0]
    inputs["input_ids"][2] = inputs["input_ids"][0]
    inputs["attention_mask"] = inputs["input_ids"].ne(1).long()
    expected = plain(model, **inputs)
    model(**batch(1))
    network = model._fast._network
    images, texts = [], []
    inner = network.encode_images, network.encode_texts
    monkeypatch.setattr(network, "encode_images", lambda p, **k: (images.append(len(p)), inner[0](p, **k))[1])
    monkeypatch.setattr(network, "encode_texts", lambda i, m, **k: (texts.append(len(i)), inner[1](i, m, **k))[1])
    assert nearly(model(**inputs).logits.detach(), expected)
    assert (sum(images), sum(texts)) in ((1, 3), (0, 3))
    inputs["pixel_values"] = inputs["pixel_values"].clone()
    assert nearly(model(**inputs).logits.detach(), expected)
    assert sum(images) <= 1


def test_pixels_written_over_by_the_caller_are_not_taken_for_the_old_ones(model):
    inputs = batch(1)
    first = model(**inputs).logits.detach().clone()
    inputs["pixel_values"][0, 1, 33, 17] += 3.0
    second = model(**inputs).logits.detach()
    assert not torch.equal(first, second)
    assert nearly(second, plain(model, **inputs))


def test_known_images_have_a_bound(model, monkeypatch):
    model(**batch(2))
    size = next(iter(model._fast._images._kept.values())).nbytes
    monkeypatch.setattr(fast_network, "KNOWN_BYTES", 3 * size)
    for seed in range(1, 4):
        model(**batch(2, seed=seed))
    assert len(model._fast._images._kept) == 3


def test_images_are_told_apart_by_every_pixel():
    known = KnownImages()
    pixels = torch.zeros(3, 3, 64, 64)
    pixels[1, 2, 63, 62] = 1e-6
    numbers = [each.number for each in known.lookup(pixels)]
    assert numbers[0] == numbers[2] != numbers[1]


def test_threads_may_share_a_model(model):
    inputs = [batch(2, seed=seed) for seed in range(4)]
    expected = [plain(model, **each) for each in inputs]
    found: list = [None] * 8

    def work(place):
        with torch.no_grad():
            found[place] = model(**inputs[place % 4]).logits

    threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(nearly(each, expected[place % 4]) for place, each in enumerate(found))


def test_bfloat16_runs_packed_too(checkpoint):
    model = bt_cli.BridgeTowerForContrastiveLearning.from_pretrained(checkpoint, dtype=torch.bfloat16)
    fast = model(**batch())
    assert used(model)
    model.use_fast_network = False
    slow = model(**batch())
    for name in ("text_embeds", "image_embeds", "cross_embeds"):
        cosine = torch.nn.functional.cosine_similarity(fast[name].float(), slow[name].float())
        assert float(cosine.min().detach()) > 0.995


def test_several_dtypes_take_the_plain_network(model):
    model.itm_score.double()
    model.bridgetower.double()
    model.bridgetower.text_model.pooler.float()
    model(**{**batch(), "pixel_values": batch()["pixel_values"].double()})
    assert not used(model)
