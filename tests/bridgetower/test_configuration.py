"""config.json: what is read, refused, and written back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bt_cli.bridgetower.configuration import BridgeTowerConfig
from bt_cli.errors import BadConfig, NotFound

SMALL = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "text_config": {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3},
    "vision_config": {"hidden_size": 64, "num_hidden_layers": 3, "patch_size": 8, "image_size": 32},
}


def test_defaults_are_the_base_model() -> None:
    config = BridgeTowerConfig()
    assert (config.hidden_size, config.num_hidden_layers, config.cross_heads) == (768, 6, 12)
    assert (config.text_config.vocab_size, config.text_config.max_tokens) == (50265, 512)
    assert (config.vision_config.grid, config.vision_config.positions) == ((18, 18), 325)
    assert config.contrastive_hidden_size is None


def test_unknown_fields_survive_a_round_trip() -> None:
    values = {**SMALL, "head_hidden_scale": 2, "drop_rate": 0.1, "text_config_dict": None}
    values["text_config"] = {**SMALL["text_config"], "classifier_dropout": None, "use_cache": True}
    written = BridgeTowerConfig.from_dict(values).to_dict()
    assert (written["head_hidden_scale"], written["drop_rate"], written["text_config_dict"]) == (2, 0.1, None)
    assert (written["text_config"]["classifier_dropout"], written["text_config"]["use_cache"]) == (None, True)
    assert BridgeTowerConfig.from_dict(written).to_dict() == written


def test_legacy_names_are_understood_and_written_with_their_new_ones() -> None:
    vision = {
        **SMALL["vision_config"],
        "vit_remove_last": True,
        "init_layernorm_from_vit": True,
        "num_hidden_layers": 4,
    }
    config = BridgeTowerConfig.from_dict({**SMALL, "vision_config": vision, "link_tower_shared": True})
    assert config.vision_config.remove_last_layer
    assert config.vision_config.depth == 3
    assert config.init_layernorm_from_vision_encoder
    assert config.share_link_tower_layers
    assert "vit_remove_last" not in config.to_dict()["vision_config"]


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        (
            "",
            "link_tower_type",
            "multiply",
            "link_tower_type is 'multiply', but has to be one of add, scaled_add, inter",
        ),
        ("", "num_hidden_layers", 4, "num_hidden_layers is 4, but has to be at most the depth of either tower (3 text"),
        ("", "num_attention_heads", 5, "num_attention_heads is 5, but has to be a divisor of hidden_size 64"),
        ("", "hidden_size", 0, "hidden_size is 0, but has to be a whole number of at least 1"),
        ("", "hidden_size", True, "hidden_size is True"),
        ("", "layer_norm_eps", "1e-5", "layer_norm_eps is '1e-5', but has to be a number from 0 to 1"),
        ("", "layer_norm_eps", float("nan"), "layer_norm_eps is nan"),
        ("", "share_link_tower_layers", 1, "share_link_tower_layers is 1, but has to be true or false"),
        ("", "text_config", [], "text_config is [], but has to be an object"),
        ("vision_config", "hidden_size", 100, "vision_config.hidden_size is 100, but has to be a multiple of 64"),
        ("vision_config", "patch_size", 64, "vision_config.patch_size is 64, but has to be at most image_size 32"),
        (
            "vision_config",
            "image_size",
            [32],
            "vision_config.image_size is [32], but has to be a whole number or a pair",
        ),
        ("vision_config", "image_size", "288", "vision_config.image_size is '288'"),
        ("text_config", "hidden_act", "tanh", "text_config.hidden_act is 'tanh', but has to be one of gelu"),
        ("text_config", "max_position_embeddings", 2, "text_config.max_position_embeddings is 2"),
        ("", "num_hidden_layers", 10**12, "num_hidden_layers is 1000000000000, but has to be at most 1,000"),
        ("", "hidden_size", 10**12, "hidden_size is 1000000000000, but has to be at most 10,000,000"),
        ("text_config", "num_hidden_layers", 10**12, "text_config.num_hidden_layers is 1000000000000"),
        ("vision_config", "num_hidden_layers", 10**12, "vision_config.num_hidden_layers is 1000000000000"),
        ("vision_config", "image_size", 10**12, "or a pair [height, width], each at most 16,384"),
        ("text_config", "hidden_dropout_prob", 1.5, "text_config.hidden_dropout_prob is 1.5"),
    ],
)
def test_impossible_values_are_refused_by_name(section: str, name: str, value: object, message: str) -> None:
    values = json.loads(json.dumps(SMALL))
    (values[section] if section else values)[name] = value
    with pytest.raises(BadConfig) as caught:
        BridgeTowerConfig.from_dict(values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_are_read_and_written_whole(tmp_path: Path) -> None:
    BridgeTowerConfig.from_dict(SMALL).write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert BridgeTowerConfig.read(tmp_path) == BridgeTowerConfig.read(tmp_path / "config.json")
    assert BridgeTowerConfig.read(tmp_path).vision_config.image == (32, 32)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file; a checkpoint folder needs"):
        BridgeTowerConfig.read(tmp_path)
    for text, message in (
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"hidden_size": 1' + "0" * 5000 + "}", "not valid JSON"),
        ("[]", "holds a list"),
        ('{"hidden_size": -1}', "hidden_size is -1"),
        ('{"text_config": {"layer_norm_eps": NaN}}', "text_config.layer_norm_eps is nan"),
        ('{"made_up": [1, -Infinity]}', r"made_up\[1\] is -inf"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(BadConfig, match=message) as caught:
            BridgeTowerConfig.read(tmp_path)
        assert str(tmp_path / "config.json") in str(caught.value)


def test_official_files_round_trip(reference: Path) -> None:
    folders = sorted((reference / "hub_configs").iterdir())
    assert len(folders) == 5
    for folder in folders:
        config = BridgeTowerConfig.read(folder)
        large = "large" in folder.name
        assert (config.hidden_size, config.vision_config.positions) == ((1024, 442) if large else (768, 325))
        assert (config.contrastive_hidden_size == 512) == folder.name.endswith("itc")
        original = json.loads((folder / "config.json").read_text())
        written = config.to_dict()
        legacy = {"vit_remove_last", "init_layernorm_from_vit"}
        assert {name for name in original if name not in written} == set()
        assert set(original["vision_config"]) - set(written["vision_config"]) <= legacy
        assert BridgeTowerConfig.from_dict(written) == BridgeTowerConfig.from_dict(
            BridgeTowerConfig.from_dict(written).to_dict()
        )
