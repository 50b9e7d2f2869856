"""The four models against the port: the same numbers, names and structures, by either network."""

from __future__ import annotations

import copy
import logging
import pickle

import pytest
import torch
from port_models import CLASSES, EMBEDDINGS, LAYOUTS, LOGITS, batch, in_layout, ours, port
from random_checkpoint import random_checkpoint, small_config

import bt_cli
from bt_cli.errors import BadInput, CheckpointMismatch, Misuse, NoDevice, NotFound, Offline

RESULTS = {
    "BridgeTowerModel": ("text_features", "image_features", "pooler_output"),
    "BridgeTowerForContrastiveLearning": ("logits", "text_embeds", "image_embeds", "cross_embeds"),
    "BridgeTowerForMaskedLM": ("logits",),
    "BridgeTowerForImageAndTextRetrieval": ("logits",),
}


def bound(name: str) -> float:
    return LOGITS if name in ("BridgeTowerForMaskedLM", "BridgeTowerForImageAndTextRetrieval") else EMBEDDINGS


def furthest(a, b) -> float:
    return max(float((x - y).abs().max().detach()) for x, y in zip(a, b, strict=True))


def leaves(value) -> list[torch.Tensor]:
    return torch.utils._pytree.tree_leaves(tuple(value))


@pytest.fixture(params=CLASSES)
def pair(request, checkpoint):
    """(class name, our model, the port's) of one checkpoint."""
    return request.param, ours(request.param).from_pretrained(checkpoint), port(request.param, checkpoint)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CLASSES)
def test_every_layout_of_the_hub_gives_what_the_port_gives(name, layout, checkpoint, tmp_path):
    folder = in_layout(checkpoint, layout, tmp_path / "layout")
    model = ours(name).from_pretrained(folder)
    mine, theirs = model(**batch()), port(name, folder)(**batch())
    assert tuple(mine) == RESULTS[name]
    assert furthest(mine.to_tuple(), [theirs[key] for key in mine]) < bound(name)


def test_both_networks_give_what_the_port_gives(pair):
    name, model, other = pair
    theirs = [other(**batch())[key].detach() for key in RESULTS[name]]
    assert model.uses_fast_network()
    assert furthest(model(**batch()).to_tuple(), theirs) < bound(name)
    assert model._fast._network is not None
    model.use_fast_network = False
    assert furthest(model(**batch()).to_tuple(), theirs) < bound(name)


def test_names_of_parameters_and_modules_are_the_ports(pair):
    _, model, other = pair
    assert {name: value.shape for name, value in model.state_dict().items()} == {
        name: value.shape for name, value in other.state_dict().items()
    }
    kinds = (torch.nn.Linear, torch.nn.LayerNorm, torch.nn.Embedding, torch.nn.Conv2d)
    mine, theirs = (
        {name for name, module in each.named_modules() if isinstance(module, kinds)} for each in (model, other)
    )
    assert mine == theirs
    model.load_state_dict(other.state_dict())
    assert model.num_parameters() == other.num_parameters()


def test_hidden_states_and_attentions_have_the_ports_structure(pair):
    _, model, other = pair
    mine = model(**batch(), output_hidden_states=True, output_attentions=True)
    theirs = other(**batch(), output_hidden_states=True, output_attentions=True)
    for entry in ("hidden_states", "attentions"):
        a, b = leaves(mine[entry]), leaves(theirs[entry])
        assert [x.shape for x in a] == [x.shape for x in b]
        assert furthest(a, b) < 1e-4
        assert [len(part) for part in mine[entry]] == [len(part) for part in theirs[entry]]


def test_without_being_asked_there_are_neither(pair):
    _, model, _ = pair
    output = model(**batch())
    assert output.hidden_states is None
    assert output.attentions is None
    assert "hidden_states" not in output
    model.config.output_hidden_states = True
    assert model(**batch()).hidden_states is not None


def test_gradients_reach_what_is_asked_for_them(pair):
    """As in the port's own tests: a hidden state and an attention keep their gradients."""
    _, model, _ = pair
    output = model(**batch(), output_hidden_states=True, output_attentions=True)
    kept = [output.hidden_states[0][0], output.hidden_states[1][0], output.hidden_states[2][0][0]]
    kept += [output.attentions[0][0]]
    for state in kept:
        state.retain_grad()
    output[0].flatten()[0].backward()
    assert all(state.grad is not None for state in kept[:2] + kept[3:] if state.requires_grad)


@pytest.mark.parametrize("fast", [True, False])
def test_gradients_are_the_ports_by_either_network(pair, fast):
    _, model, other = pair
    model.use_fast_network = fast
    mine, theirs = model(**batch()), other(**batch())
    generator = torch.Generator().manual_seed(1)
    for output in (mine, theirs):
        generator.manual_seed(1)
        some = torch.randn(mine[-1].shape, generator=generator)
        (output[list(mine)[-1]] * some).sum().backward()
    expected = {name: value.grad for name, value in other.named_parameters()}
    for name, value in model.named_parameters():
        if expected[name] is None:
            assert value.grad is None, name
        elif not name.endswith("key.bias"):  # zero but for rounding: a constant on all scores of a query
            size = float(expected[name].abs().max())
            assert float((value.grad - expected[name]).abs().max()) < 1e-3 * size + 1e-5, name


def test_late_gradients_of_pixels_and_of_gradients(checkpoint):
    model = bt_cli.BridgeTowerForImageAndTextRetrieval.from_pretrained(checkpoint)
    seconds = []
    for fast in (True, False):
        model.use_fast_network = fast
        inputs = batch()
        inputs["pixel_values"].requires_grad_(True)
        logits = model(**inputs).logits
        (first,) = torch.autograd.grad(logits[:, 1].sum(), inputs["pixel_values"], create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), model.itm_score.fc.weight)
        seconds.append((first.detach(), second))
    assert furthest(*seconds) < 1e-3


def test_a_late_gradient_is_of_the_mode_in_which_the_result_was_computed(checkpoint):
    grads = []
    for mode_after in (False, True):
        model = bt_cli.BridgeTowerForImageAndTextRetrieval.from_pretrained(checkpoint)
        loss = model(**batch(), labels=torch.tensor([1, 0, 1])).loss
        model.train(mode_after)
        loss.backward()
        assert model.training is mode_after
        grads.append(model.itm_score.fc.weight.grad)
    assert torch.equal(*grads)


def test_a_late_gradient_refuses_weights_that_were_written_over(checkpoint):
    model = bt_cli.BridgeTowerForImageAndTextRetrieval.from_pretrained(checkpoint)
    loss = model(**batch()).logits.sum()
    with torch.no_grad():
        model.itm_score.fc.weight.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_losses_are_the_ports(checkpoint):
    inputs = batch()
    cases = {
        "BridgeTowerForContrastiveLearning": {"return_loss": True},
        "BridgeTowerForMaskedLM": {"labels": inputs["input_ids"].masked_fill(inputs["input_ids"] < 60, -100)},
        "BridgeTowerForImageAndTextRetrieval": {"labels": torch.tensor([0, 1, 1])},
    }
    for name, asked in cases.items():
        mine, theirs = ours(name).from_pretrained(checkpoint), port(name, checkpoint)
        assert float(abs(mine(**inputs, **asked).loss - theirs(**inputs, **asked).loss).detach()) < 1e-4
        assert next(iter(mine(**inputs, **asked))) == "loss"
    assert ours(name).from_pretrained(checkpoint)(**inputs).loss is None


def test_the_other_documented_arguments(checkpoint):
    mine, theirs = bt_cli.BridgeTowerModel.from_pretrained(checkpoint), port("BridgeTowerModel", checkpoint)
    inputs = batch()
    expected = theirs(**inputs)[0]
    extras = {"token_type_ids": torch.zeros_like(inputs["input_ids"]), "pixel_mask": torch.ones(3, 64, 64)}
    assert furthest([mine(**inputs, **extras, image_token_type_idx=1)[0]], [expected]) < EMBEDDINGS
    bare = mine(**inputs, return_dict=False)
    assert isinstance(bare, tuple)
    assert len(bare) == 3
    larger = batch(size=96)
    asked = {"interpolate_pos_encoding": True}
    assert furthest([mine(**larger, **asked)[0]], [theirs(**larger, **asked)[0]]) < EMBEDDINGS
    embedded = mine.vision_model.visual.forward_pre(inputs["pixel_values"]).transpose(0, 1).detach()
    texts = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    for model in (mine, theirs):
        assert furthest([model(**texts, image_embeds=embedded)[0]], [expected]) < EMBEDDINGS
    reversed_ids = inputs["attention_mask"].flip(1)  # padding may stand anywhere
    changed = {**inputs, "attention_mask": reversed_ids}
    assert furthest([mine(**changed)[0]], [theirs(**changed)[0]]) < EMBEDDINGS


@pytest.mark.parametrize("change", [
    {"share_cross_modal_transformer_layers": False},
    {"link_tower_type": "scaled_add"},
    {"link_tower_type": "interpolate"},
    {"vision_config": {"remove_last_layer": True, "num_hidden_layers": 4}},
    {"vision_config": {"share_layernorm": False}},
    {"text_config": {"hidden_act": "relu"}},
])  # fmt: skip
def test_variants_of_the_network(change, tmp_path):
    folder = random_checkpoint(tmp_path / "variant", **change)
    for name in CLASSES:
        if name == "BridgeTowerForContrastiveLearning" and "share_cross_modal_transformer_layers" in change:
            continue  # the port takes the list of transforms for one, and fails
        mine = ours(name).from_pretrained(folder)
        theirs = [port(name, folder)(**batch())[key] for key in RESULTS[name]]
        for fast in (True, False):
            mine.use_fast_network = fast
            assert furthest(mine(**batch()).to_tuple(), theirs) < 10 * bound(name)


@pytest.mark.parametrize("change", [{"share_link_tower_layers": True}, {"itc_image_path": "tower"}])
def test_variants_that_the_port_lacks_agree_between_both_networks(change, tmp_path):
    folder = random_checkpoint(tmp_path / "variant", **change)
    for name in CLASSES:
        model = ours(name).from_pretrained(folder)
        fast = model(**batch()).to_tuple()
        model.use_fast_network = False
        assert furthest(fast, model(**batch()).to_tuple()) < bound(name)


def test_results_do_not_depend_on_what_else_is_in_a_batch(pair):
    name, model, _ = pair
    inputs = batch(4)
    inputs["pixel_values"][2] = inputs["pixel_values"][0]
    inputs["input_ids"][3] = inputs["input_ids"][0]
    inputs["attention_mask"] = inputs["input_ids"].ne(1).long()
    with torch.no_grad():
        together = model(**inputs)
        for row in range(4):
            alone = model(**{key: value[row : row + 1] for key, value in inputs.items()})
            assert furthest([alone[-1][0]], [together[-1][row]]) < bound(name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_text_of_which_the_mask_hides_everything_gives_what_the_port_gives(pair, dtype):
    name, *models = pair
    mine, theirs = (copy.deepcopy(each).to(dtype) for each in models)
    inputs = batch()
    inputs["attention_mask"][2] = 0
    bounds = {torch.float32: bound(name), torch.bfloat16: 0.5}
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            made, expected = mine(**inputs), theirs(**inputs)
        assert furthest(made.to_tuple(), [expected[key] for key in made]) < bounds[dtype]


def test_calls_are_repeatable_and_training_is_not(checkpoint):
    model = bt_cli.BridgeTowerModel.from_pretrained(checkpoint)
    assert not model.training
    assert torch.equal(model(**batch()).pooler_output, model(**batch()).pooler_output)
    model.train()
    assert not torch.equal(model(**batch()).pooler_output, model(**batch()).pooler_output)
    assert not model.uses_fast_network()


def test_copies_and_pickles_are_the_same_model(pair):
    _, model, _ = pair
    expected = model(**batch()).to_tuple()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin._fast._network is None
        assert furthest(twin(**batch()).to_tuple(), expected) == 0
        assert twin.config == model.config
    with torch.no_grad():
        next(iter(twin.parameters())).add_(1)
    assert furthest(model(**batch()).to_tuple(), expected) == 0


def test_saved_and_loaded_it_is_the_same_model_and_the_port_loads_it(pair, tmp_path):
    name, model, _ = pair
    model.save_pretrained(tmp_path / "saved", max_shard_size="200KB")
    assert len(list((tmp_path / "saved").glob("*.safetensors"))) > 2
    assert (
        (tmp_path / "saved" / "README.md")
        .read_text("utf-8")
        .startswith("---\nlicense: mit\nlibrary_name: bridgetower\n")
    )
    again, report = ours(name).from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert report == {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set(), "error_msgs": []}
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    theirs = port(name, tmp_path / "saved")
    assert furthest([theirs(**batch())[key] for key in RESULTS[name]], model(**batch()).to_tuple()) < bound(name)


def test_dtype_and_device(checkpoint, tmp_path):
    model = bt_cli.BridgeTowerModel.from_pretrained(checkpoint, dtype="bfloat16", device_map="cpu")
    assert model.dtype == torch.bfloat16
    assert {value.dtype for value in model.parameters()} == {torch.bfloat16}
    assert model(**batch()).pooler_output.dtype == torch.bfloat16
    model.save_pretrained(tmp_path / "half")
    assert bt_cli.BridgeTowerModel.from_pretrained(tmp_path / "half").dtype == torch.bfloat16
    single = bt_cli.BridgeTowerModel.from_pretrained(
        tmp_path / "half", torch_dtype=torch.float32, device_map={"": "cpu"}
    )
    assert single.dtype == torch.float32
    assert single.device == torch.device("cpu")
    assert single.to(torch.float64)(**batch()).pooler_output.dtype == torch.float64
    half = model.half()
    assert not torch.isnan(half(**batch()).pooler_output).any()
    with pytest.raises(NoDevice, match="use 'auto' or 'cpu'"):
        bt_cli.BridgeTowerModel.from_pretrained(checkpoint, device_map="nowhere")
    with pytest.raises(BadInput, match="not split"):
        bt_cli.BridgeTowerModel.from_pretrained(checkpoint, device_map={"a": "cpu", "b": "cuda"})
    with pytest.raises(BadInput, match="no kind of number"):
        bt_cli.BridgeTowerModel.from_pretrained(checkpoint, dtype="int8")


def test_where_checkpoints_come_from(checkpoint, tmp_path):
    assert bt_cli.BridgeTowerModel.from_pretrained("tiny").name_or_path == "tiny"
    (tmp_path / "inner").symlink_to(checkpoint)
    model = bt_cli.BridgeTowerModel.from_pretrained(tmp_path, subfolder="inner", hidden_act="relu")
    assert model.config.hidden_act == "relu"
    with pytest.raises(NotFound, match="no checkpoint folder"):
        bt_cli.BridgeTowerModel.from_pretrained(tmp_path, subfolder="other")
    with pytest.raises(Offline, match="local_files_only"):
        bt_cli.BridgeTowerModel.from_pretrained("someone/something", local_files_only=True, cache_dir=tmp_path)
    with pytest.raises(Misuse, match="knows no argument called revison"):
        bt_cli.BridgeTowerModel.from_pretrained(checkpoint, revison="main")


def test_missing_heads_are_drawn_anew_and_missing_bodies_refused(tmp_path, caplog):
    folder = random_checkpoint(tmp_path / "c", heads=("mlm",))
    with caplog.at_level(logging.WARNING, "bt_cli"):
        model = bt_cli.BridgeTowerForImageAndTextRetrieval.from_pretrained(folder)
    assert "has no itm_score.fc.weight, itm_score.fc.bias" in caplog.text
    assert abs(float(model.itm_score.fc.weight.std().detach()) - 0.05) < 0.02
    assert float(model.itm_score.fc.bias.abs().sum().detach()) == 0
    tensors = model.state_dict()
    del tensors["bridgetower.cross_modal_text_pooler.dense.bias"]
    with pytest.raises(CheckpointMismatch, match=r"missing: bridgetower\.cross_modal_text_pooler\.dense\.bias"):
        bt_cli.BridgeTowerModel.from_pretrained(folder, state_dict=tensors)
    with pytest.raises(CheckpointMismatch, match="mis-shaped: .*word_embeddings.weight is "):
        bt_cli.BridgeTowerModel.from_pretrained(folder, text_config={"vocab_size": 300})
    other = bt_cli.BridgeTowerModel.from_pretrained(
        folder, text_config={"vocab_size": 300}, ignore_mismatched_sizes=True
    )
    assert other.get_input_embeddings().weight.shape[0] == 300


def test_a_new_model_has_the_statistics_of_the_ports():
    import transformers

    config = small_config()
    port_config = transformers.BridgeTowerConfig(**config.to_dict())
    torch.manual_seed(0)
    for name in CLASSES:
        mine, theirs = (
            ours(name)(bt_cli.BridgeTowerConfig.from_dict(config.to_dict())),
            getattr(transformers, name)(port_config),
        )
        expected = dict(theirs.named_parameters())
        for key, value in mine.named_parameters():
            other = expected[key].detach()
            value = value.detach()
            if value.numel() < 64 or not float(other.abs().max()):
                assert float((value.mean() - other.mean()).abs()) < 0.2
                assert bool(value.any()) == bool(other.any())
                continue
            spread = float(other.std()) * (4 / value.numel() ** 0.5) + 1e-6
            assert abs(float(value.std() - other.std())) < spread * 2, key
            assert abs(float(value.mean() - other.mean())) < spread * 2, key


def test_a_model_is_made_of_a_configuration():
    with pytest.raises(BadInput, match="from_pretrained"):
        bt_cli.BridgeTowerModel("tiny")
    model = bt_cli.BridgeTowerModel(small_config())
    assert isinstance(model.config, bt_cli.BridgeTowerConfig)
    assert model.training


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("count", [280, 250])
def test_resizing_the_vocabulary(name, count, checkpoint, tmp_path):
    model = ours(name).from_pretrained(checkpoint)
    before = model.get_input_embeddings().weight.detach().clone()
    inputs = batch()
    expected = model(**inputs).to_tuple()
    table = model.resize_token_embeddings(count)
    assert table is model.get_input_embeddings()
    assert table.weight.shape[0] == table.num_embeddings == model.config.text_config.vocab_size == count
    assert torch.equal(table.weight[: min(count, 261)], before[:count])
    again = model(**inputs).to_tuple()
    if name == "BridgeTowerForMaskedLM":
        assert again[0].shape[2] == count
        assert model.get_output_embeddings().weight.shape[0] == count
        expected, again = [expected[0][..., :250]], [again[0][..., :250]]
    assert furthest(expected, again) < LOGITS
    model.save_pretrained(tmp_path / "resized")
    assert (
        furthest(ours(name).from_pretrained(tmp_path / "resized")(**inputs).to_tuple(), model(**inputs).to_tuple())
        < 1e-6
    )
    assert model.resize_token_embeddings(count + 1, pad_to_multiple_of=64).num_embeddings == -(-(count + 1) // 64) * 64


def test_tied_words(tmp_path):
    config = small_config(tie_word_embeddings=True)
    model = bt_cli.BridgeTowerForMaskedLM(config).eval()
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    model.save_pretrained(tmp_path / "tied")
    from safetensors import safe_open

    with safe_open(tmp_path / "tied" / "model.safetensors", "pt") as file:
        assert "mlm_score.decoder.weight" not in file.keys()  # noqa: SIM118
    again = bt_cli.BridgeTowerForMaskedLM.from_pretrained(tmp_path / "tied")
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight
    assert furthest(again(**batch()).to_tuple(), model(**batch()).to_tuple()) < LOGITS
    assert (
        furthest(port("BridgeTowerForMaskedLM", tmp_path / "tied")(**batch())[:1], model(**batch()).to_tuple()) < LOGITS
    )


WRONG = {
    "inputs_embeds is not taken": {"inputs_embeds": torch.zeros(3, 9, 64)},
    "input_ids is missing": {"input_ids": None},
    "pixel_values is missing": {"pixel_values": None},
    "3 texts and 2 images": {"pixel_values": torch.zeros(2, 3, 64, 64)},
    "they have to be the same": {"attention_mask": torch.ones(3, 4)},
    "the vocabulary ends at 260": {"input_ids": torch.full((3, 9), 261)},
    "holds -1": {"input_ids": torch.full((3, 9), -1)},
    "truncate in the processor": {"input_ids": torch.zeros(3, 65, dtype=torch.long), "attention_mask": None},
    "has to be int64": {"input_ids": torch.zeros(3, 9)},
    "are 32 x 64, the model takes 64 x 64": {"pixel_values": torch.zeros(3, 3, 32, 64)},
    r"has to be \(images, 3, height, width\)": {"pixel_values": torch.zeros(3, 64, 64)},
    r"has to be \(images, patches, 64\)": {"image_embeds": torch.zeros(3, 17, 32)},
    "types are 1 to 1": {"image_token_type_idx": 2},
    "less than a patch": {"pixel_values": torch.zeros(3, 3, 8, 8), "interpolate_pos_encoding": True},
}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(("message", "change"), WRONG.items(), ids=range(len(WRONG)))
def test_what_cannot_be_computed_is_one_line(name, message, change, checkpoint):
    model = ours(name)(small_config()).eval()
    with pytest.raises(ValueError, match=message) as caught:
        model(**{**batch(), **change})
    assert isinstance(caught.value, BadInput)
    assert "\n" not in str(caught.value)


def test_labels_that_do_not_fit(checkpoint):
    with pytest.raises(BadInput, match="2 labels for 3 pairs"):
        bt_cli.BridgeTowerForImageAndTextRetrieval(small_config())(**batch(), labels=torch.tensor([1, 0]))
    with pytest.raises(BadInput, match="labels have the shape"):
        bt_cli.BridgeTowerForMaskedLM(small_config())(**batch(), labels=torch.zeros(3, 4, dtype=torch.long))


def test_parameters_are_counted(checkpoint):
    model = bt_cli.BridgeTowerForMaskedLM.from_pretrained(checkpoint)
    everything = model.num_parameters()
    tables = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding))
    assert model.num_parameters(exclude_embeddings=True) == everything - tables
    model.bridgetower.requires_grad_(False)
    assert model.num_parameters(only_trainable=True) == sum(p.numel() for p in model.mlm_score.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_it_compiles_and_exports(name, checkpoint):
    model = ours(name).from_pretrained(checkpoint)
    inputs = batch()
    with torch.no_grad():
        expected = model(**inputs).to_tuple()
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        assert furthest(compiled(**inputs).to_tuple(), expected) < bound(name)
        exported = torch.export.export(model, (), inputs).module()
        assert furthest(exported(**inputs).to_tuple(), expected) < bound(name)
