"""The documented configurations: arguments, attributes, files, and both ways to the port."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hub.fake_hub import FakeHub
from hypothesis import given
from hypothesis import strategies as st
from random_checkpoint import random_checkpoint

import bt_cli
from bt_cli import BridgeTowerConfig, BridgeTowerTextConfig, BridgeTowerVisionConfig
from bt_cli.bridgetower import configuration as network
from bt_cli.bridgetower.network import BridgeTower
from bt_cli.errors import BadConfig, Misuse, NotFound, Offline, UnknownModel, Unwritable

transformers = pytest.importorskip("transformers")

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "text_config": {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "intermediate_size": 96,
        "vocab_size": 261,
    },
    "vision_config": {"hidden_size": 64, "num_hidden_layers": 3, "patch_size": 8, "image_size": 32},
}
# From the documentation.
TEXT = {
    "vocab_size": 50265,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "initializer_factor": 1,
    "layer_norm_eps": 1e-5,
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "use_cache": True,
}
VISION = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "patch_size": 16,
    "image_size": 288,
    "initializer_factor": 1,
    "layer_norm_eps": 1e-5,
    "stop_gradient": False,
    "share_layernorm": True,
    "remove_last_layer": False,
}
WHOLE = {
    "share_cross_modal_transformer_layers": True,
    "hidden_act": "gelu",
    "hidden_size": 768,
    "initializer_factor": 1,
    "layer_norm_eps": 1e-5,
    "share_link_tower_layers": False,
    "link_tower_type": "add",
    "num_attention_heads": 12,
    "num_hidden_layers": 6,
    "tie_word_embeddings": False,
    "init_layernorm_from_vision_encoder": False,
}


@pytest.mark.parametrize(
    ("face", "defaults"), [(BridgeTowerTextConfig, TEXT), (BridgeTowerVisionConfig, VISION), (BridgeTowerConfig, WHOLE)]
)
def test_every_documented_argument_has_its_default_and_can_be_given(face: Any, defaults: dict[str, Any]) -> None:
    config = face()
    assert {name: getattr(config, name) for name in defaults} == defaults
    assert face(**defaults) == config
    others = {
        "hidden_size": 1536,
        "num_hidden_layers": 8,
        "layer_norm_eps": 1e-6,
        "initializer_factor": 0.5,
        "share_layernorm": False,
        "hidden_act": "relu",
        "link_tower_type": "interpolate",
    }
    for name in others.keys() & defaults.keys():
        changed = face(**{name: others[name]})
        assert getattr(changed, name) == others[name]
        assert changed != config


def test_it_is_the_networks_configuration() -> None:
    config = BridgeTowerConfig(**SMALL, contrastive_hidden_size=16)
    assert isinstance(config, network.BridgeTowerConfig)
    assert isinstance(config.text_config, network.BridgeTowerTextConfig)
    assert (config.vision_config.grid, config.text_config.max_tokens, config.cross_heads) == ((4, 4), 512, 4)
    assert BridgeTower(config, heads=("itc",)).config is config


def test_sections_may_be_objects_or_dictionaries() -> None:
    text = BridgeTowerTextConfig(**SMALL["text_config"])
    objects = BridgeTowerConfig(
        **{**SMALL, "text_config": text, "vision_config": BridgeTowerVisionConfig(**SMALL["vision_config"])}
    )
    assert objects == BridgeTowerConfig(**SMALL)
    assert objects.text_config is text
    port = transformers.BridgeTowerTextConfig(**SMALL["text_config"])
    assert BridgeTowerConfig(**{**SMALL, "text_config": port}) == objects
    objects.vision_config = {**SMALL["vision_config"], "patch_size": 16}
    assert objects.vision_config.patch == (16, 16)
    assert BridgeTowerConfig(text_config=None, vision_config=None) == BridgeTowerConfig()
    with pytest.raises(BadConfig, match="text_config is \\[\\], but has to be an object"):
        BridgeTowerConfig(text_config=[])


def test_unknown_arguments_are_kept_as_attributes() -> None:
    config = BridgeTowerConfig(**SMALL, head_hidden_scale=2, drop_rate=0.1)
    config.house_rule = {"a": [1]}
    config.text_config.classifier_dropout = None
    assert (config.head_hidden_scale, config.house_rule["a"]) == (2, [1])
    assert "house_rule" in config
    assert config.to_dict()["house_rule"] == {"a": [1]}
    assert BridgeTowerConfig.from_dict(config.to_dict()) == config
    del config.house_rule
    assert not hasattr(config, "house_rule")
    with pytest.raises(AttributeError, match="'BridgeTowerConfig' has no attribute 'nothing'"):
        _ = config.nothing


def test_values_that_other_names_stand_for() -> None:
    config = BridgeTowerConfig(torch_dtype="bfloat16", num_labels=3, output_attentions=True, return_dict=False)
    assert (config.dtype, config.torch_dtype) == (torch.bfloat16, torch.bfloat16)
    assert (config.num_labels, config.id2label[2], config.label2id["LABEL_1"]) == (3, "LABEL_2", 1)
    assert (config.output_attentions, config.use_return_dict) == (True, False)
    config.dtype = torch.float16
    assert config.to_dict()["dtype"] == "float16"
    config.torch_dtype = None
    assert config.dtype is None
    assert BridgeTowerConfig(id2label={"0": "no", "1": "yes"}).id2label == {0: "no", 1: "yes"}
    for count in (2, 3):  # where they disagree, the number wins, as in the port
        arguments = {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}, "num_labels": count}
        mine, theirs = BridgeTowerConfig(**arguments), transformers.BridgeTowerConfig(**arguments)
        for name in ("num_labels", "id2label", "label2id"):
            assert getattr(mine, name) == getattr(theirs, name)
    named = BridgeTowerConfig(name_or_path="a/b")
    assert named._name_or_path == "a/b"
    named._name_or_path = "c/d"
    assert named.name_or_path == named.to_dict()["_name_or_path"] == "c/d"
    vision = {"vit_remove_last": True, "init_layernorm_from_vit": True}
    legacy = BridgeTowerConfig(link_tower_shared=True, vision_config=vision)
    assert legacy.share_link_tower_layers
    assert legacy.init_layernorm_from_vision_encoder
    assert legacy.vision_config.remove_last_layer
    assert config.get_text_config() is config.text_config
    assert config.get_text_config(encoder=True) is config
    assert config.text_config.get_text_config() is config.text_config
    with pytest.raises(BadConfig, match="dtype is 'float31', but has to be one of float32"):
        config.dtype = "float31"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_hidden_layers": 13}, "num_hidden_layers is 13, but has to be at most the depth of either tower"),
        ({"text_config": {"hidden_act": "tanh"}}, "text_config.hidden_act is 'tanh', but has to be one of gelu"),
        ({"text_config": {"is_decoder": True}}, "text_config.is_decoder is True, but has to be false"),
        ({"text_config": {"position_embedding_type": "relative_key"}}, "has to be one of absolute"),
        ({"vision_config": {"hidden_size": 100}}, "vision_config.hidden_size is 100, but has to be a multiple of 64"),
        ({"hidden_size": "768"}, "hidden_size is '768', but has to be a whole number"),
    ],
)
def test_what_no_network_can_be_built_from_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig) as caught:
        BridgeTowerConfig(**values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_set_later_are_looked_at_before_they_are_saved(tmp_path: Path) -> None:
    config = BridgeTowerConfig(**SMALL)
    config.text_config.num_hidden_layers = 1
    with pytest.raises(BadConfig, match="num_hidden_layers is 2, but has to be at most the depth"):
        config.save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []
    config.num_hidden_layers = 1
    config.validate()


def test_copies_pickles_and_comparison() -> None:
    config = BridgeTowerConfig(**SMALL, foo={"a": 1}, dtype="float16")
    for again in (copy.deepcopy(config), pickle.loads(pickle.dumps(config)), copy.copy(config)):
        assert again == config
        assert again.foo == {"a": 1}
    again = copy.deepcopy(config)
    again.text_config.vocab_size = 300
    assert again != config
    assert config.text_config.vocab_size == 261
    assert config != BridgeTowerTextConfig()
    assert (config == "config") is False
    named = copy.deepcopy(config)
    named.name_or_path = "somewhere"
    assert named == config


def test_repr_and_json_show_what_config_json_holds() -> None:
    config = BridgeTowerConfig(**SMALL, output_attentions=True)
    shown = repr(config)
    assert shown.startswith('BridgeTowerConfig {\n  "hidden_act": "gelu",\n')
    values = json.loads(shown.removeprefix("BridgeTowerConfig "))
    assert values == config.to_diff_dict()
    assert values["output_attentions"] is True
    assert not values.keys() & {"id2label", "return_dict", "_name_or_path", "dtype", "extra"}
    assert values["text_config"]["model_type"] == "bridgetower_text_model"
    everything = json.loads(config.to_json_string(use_diff=False))
    assert everything["return_dict"] is True
    assert everything["_name_or_path"] == ""


def test_the_ports_dictionaries_load_here_and_ours_there(tmp_path: Path) -> None:
    for values in (
        {},
        SMALL,
        {**SMALL, "layer_norm_eps": 1e-12, "share_link_tower_layers": True, "house_rule": [1, 2]},
    ):
        ours, port = BridgeTowerConfig(**values), transformers.BridgeTowerConfig(**values)
        assert set(ours.to_dict()) == set(port.to_dict())
        assert set(ours.to_diff_dict()) | {"transformers_version"} == set(port.to_diff_dict())
        assert BridgeTowerConfig.from_dict(port.to_dict()) == ours
        assert BridgeTowerConfig(**port.to_diff_dict()) == ours
        theirs = transformers.BridgeTowerConfig.from_dict(ours.to_dict())
        assert BridgeTowerConfig.from_dict(theirs.to_dict()) == ours
        ours.save_pretrained(tmp_path / "ours")
        port.save_pretrained(tmp_path / "port")
        assert BridgeTowerConfig.from_pretrained(tmp_path / "port") == ours
        read = transformers.BridgeTowerConfig.from_pretrained(tmp_path / "ours")
        assert BridgeTowerConfig.from_dict(read.to_dict()) == ours
        for section in ("text_config", "vision_config"):
            theirs, mine = getattr(port, section).to_diff_dict(), getattr(ours, section).to_diff_dict()
            assert {name: mine[name] for name in theirs if name != "transformers_version"} == {
                name: value for name, value in theirs.items() if name != "transformers_version"
            }


def test_official_files_are_read_as_the_port_reads_them(reference: Path) -> None:
    folders = sorted((reference / "hub_configs").iterdir())
    assert len(folders) == 5
    for folder in folders:
        ours = BridgeTowerConfig.from_pretrained(folder)
        port = transformers.BridgeTowerConfig.from_pretrained(folder)
        for name in WHOLE:
            assert getattr(ours, name) == getattr(port, name), (folder.name, name)
        for name in TEXT.keys() - {"position_embedding_type"}:
            assert getattr(ours.text_config, name) == getattr(port.text_config, name), (folder.name, name)
        for name in VISION:
            assert getattr(ours.vision_config, name) == getattr(port.vision_config, name), (folder.name, name)
        assert BridgeTowerTextConfig.from_pretrained(folder) == ours.text_config
        assert BridgeTowerVisionConfig.from_pretrained(folder / "config.json") == ours.vision_config
        assert network.BridgeTowerConfig.from_dict(ours.to_diff_dict()).cross_heads == ours.cross_heads


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda name: name not in ("model_type", "extra")),
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.lists(st.integers()),
        max_size=4,
    )
)
def test_whatever_else_a_file_holds_survives(more: dict[str, Any]) -> None:
    try:
        config = BridgeTowerConfig(**{**SMALL, **{f"x_{name}": value for name, value in more.items()}})
    except BadConfig:
        pytest.fail("an unknown name can't be wrong")
    again = BridgeTowerConfig(**json.loads(config.to_json_string()))
    assert again == config
    assert {name: again.to_dict()[f"x_{name}"] for name in more} == more


def test_files_by_every_name(tmp_path: Path) -> None:
    config = BridgeTowerConfig(**SMALL, contrastive_hidden_size=16)
    config.save_pretrained(tmp_path / "new" / "folder")
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["config.json"]
    for read in (
        BridgeTowerConfig.from_pretrained(tmp_path / "new" / "folder"),
        BridgeTowerConfig.from_pretrained(str(tmp_path / "new"), subfolder="folder"),
        BridgeTowerConfig.from_pretrained(tmp_path / "new" / "folder" / "config.json"),
        BridgeTowerConfig.from_json_file(tmp_path / "new" / "folder" / "config.json"),
        BridgeTowerConfig.read(tmp_path / "new" / "folder"),
    ):
        assert type(read) is BridgeTowerConfig
        assert read == config
    read.write(tmp_path)
    read.to_json_file(tmp_path / "again.json")
    assert (tmp_path / "config.json").read_text() == (tmp_path / "again.json").read_text() == config.to_json_string()
    assert network.BridgeTowerConfig.read(tmp_path).contrastive_hidden_size == 16
    assert BridgeTowerConfig.from_pretrained("tiny").contrastive_hidden_size == 128
    assert bt_cli.BridgeTowerConfig is BridgeTowerConfig


def test_changes_go_over_the_file(tmp_path: Path) -> None:
    BridgeTowerConfig(**SMALL).save_pretrained(tmp_path)
    config, unused = BridgeTowerConfig.from_pretrained(
        tmp_path, text_config={"vocab_size": 300}, output_hidden_states=True, colour="red", return_unused_kwargs=True
    )
    assert (config.text_config.vocab_size, config.text_config.hidden_size) == (300, 64)
    assert (config.output_hidden_states, unused) == (True, {"colour": "red"})
    config.update({"layer_norm_eps": 1e-6})
    config.update_from_string("hidden_act=relu,initializer_factor=2,tie_word_embeddings=true")
    assert (config.layer_norm_eps, config.hidden_act) == (1e-6, "relu")
    assert (config.initializer_factor, config.tie_word_embeddings) == (2, True)
    for text, message in (
        ("nothing=1", "has no value 'nothing'"),
        ("hidden_act", "has no value"),
        ("hidden_size=wide", "hidden_size is int"),
        ("tie_word_embeddings=perhaps", "is bool"),
        ("text_config=3", "only numbers, flags and text can be updated"),
    ):
        with pytest.raises(BadConfig, match=message):
            config.update_from_string(text)


def test_broken_files_and_other_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no checkpoint folder"):
        BridgeTowerConfig.from_pretrained(tmp_path / "missing")
    with pytest.raises(NotFound, match="no config.json in it; name a checkpoint's folder"):
        BridgeTowerConfig.from_pretrained(tmp_path)
    for text, message in (
        ("{", "not valid JSON"),
        ('{"model_type": "bert"}', "model_type is 'bert', but has to be 'bridgetower'"),
        ('{"hidden_size": -1}', f"^{tmp_path}: hidden_size is -1, but has to be"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(BadConfig, match=message) as caught:
            BridgeTowerConfig.from_pretrained(tmp_path)
        assert "\n" not in str(caught.value)
    with pytest.raises(Unwritable, match="no folder can be made there"):
        BridgeTowerConfig().save_pretrained(tmp_path / "config.json")
    with pytest.raises(Misuse, match="hf upload"):
        BridgeTowerConfig().save_pretrained(tmp_path, push_to_hub=True)


@pytest.fixture
def served(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub on loopback with one checkpoint, `someone/small`."""
    from hub.fake_hub import go_online

    folder = random_checkpoint(tmp_path_factory.mktemp("hub") / "small")
    with FakeHub({"someone/small": folder}) as hub:
        go_online(monkeypatch, hub.url)
        yield hub


def test_a_hub_name_brings_the_small_files_and_no_weights(served: FakeHub, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    config = BridgeTowerConfig.from_pretrained("someone/small", cache_dir=cache)
    assert config.hidden_size == 64
    files = {path.name for path in cache.glob("models--someone--small/snapshots/*/*")}
    assert "config.json" in files
    assert "model.safetensors" not in files
    asked = len(served.requests)
    assert BridgeTowerConfig.from_pretrained("someone/small", cache_dir=cache, local_files_only=True) == config
    processor = bt_cli.BridgeTowerProcessor.from_pretrained("someone/small", cache_dir=cache)
    assert processor.image_processor.size == {"shortest_edge": 64}
    assert len(served.requests) == asked
    BridgeTowerConfig.from_pretrained("someone/small", cache_dir=cache, force_download=True)
    assert len(served.requests) > asked
    with pytest.raises(Offline, match="local_files_only forbids fetching it"):
        BridgeTowerConfig.from_pretrained("someone/small", cache_dir=tmp_path / "other", local_files_only=True)
    with pytest.raises(UnknownModel, match="no revision 'never'"):
        BridgeTowerConfig.from_pretrained("someone/small", revision="never")
    with pytest.raises(UnknownModel):
        BridgeTowerConfig.from_pretrained("someone/else")
    with pytest.raises(UnknownModel, match="has no sub/config.json"):
        BridgeTowerConfig.from_pretrained("someone/small", subfolder="sub")
