"""Saved checkpoints: the same bits for bt, the same outputs for the port, whole or not there at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from random_checkpoint import HEADS, random_network, small_config

from bt_cli.checkpoints.checkpoint import Checkpoint
from bt_cli.checkpoints.hub_layout import HubLayout, canonical_name
from bt_cli.checkpoints.saving import hub_tensors, save_checkpoint
from bt_cli.errors import BtError, Unwritable


def test_every_parameter_has_one_place_on_the_hub_and_the_way_back() -> None:
    config = small_config(vision_config={"share_layernorm": False}, share_cross_modal_transformer_layers=False)
    network = random_network(config)
    tensors = hub_tensors(network)
    assert all(canonical_name(name) == name for name in tensors)
    plan = HubLayout(config).plan({name: tuple(each.shape) for name, each in network.named_parameters()})
    assert {piece.hub_name for pieces in plan.values() for piece in pieces} == set(tensors)
    for name, parameter in network.named_parameters():
        for piece in plan[name]:
            made = tensors[piece.hub_name].make()
            assert tuple(made.shape) == piece.hub_shape
            rows = made if piece.hub_rows is None else made[slice(*piece.hub_rows)]
            ours = parameter if piece.rows is None else parameter[slice(*piece.rows)]
            assert torch.equal(rows.reshape(ours.shape), ours), name
    assert sum(tensor.make().numel() for tensor in tensors.values()) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shard_bytes", [5_000_000_000, 300_000])
def test_what_is_saved_is_read_back(tmp_path: Path, dtype: torch.dtype, shard_bytes: int) -> None:
    network = random_network(small_config())
    folder = tmp_path / "new" / "saved"
    save_checkpoint(network, folder, dtype=dtype, shard_bytes=shard_bytes)
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.heads == set(HEADS)
    read = dict(checkpoint.network().named_parameters())
    for name, parameter in network.named_parameters():
        assert torch.equal(read[name], parameter.to(dtype).float()), name
    names = sorted(path.name for path in folder.iterdir())
    if shard_bytes > 1_000_000:
        assert names == ["config.json", "model.safetensors"]
    else:
        count = len(checkpoint.files.paths)
        assert count > 3
        assert all(path.stat().st_size < 300_000 + 20_000 for path in checkpoint.files.paths)
        assert names[:2] == ["config.json", f"model-00001-of-{count:05d}.safetensors"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["saved"]


def test_unknown_fields_of_the_config_are_kept(tmp_path: Path) -> None:
    config = small_config(drop_rate=0.1, text_config={"position_embedding_type": "absolute"}, torch_dtype="float16")
    save_checkpoint(random_network(config), tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert saved["drop_rate"] == 0.1
    assert saved["text_config"]["position_embedding_type"] == "absolute"
    assert saved["dtype"] == "float32"
    assert "torch_dtype" not in saved
    assert saved["architectures"] == ["BridgeTowerForContrastiveLearning"]


def test_saving_over_a_checkpoint_leaves_other_files_and_no_stale_weights(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    network = random_network(small_config(), seed=1)
    save_checkpoint(network, folder, shard_bytes=300_000)
    (folder / "README.md").write_text("kept")
    (folder / "pytorch_model.bin").write_bytes(b"of an older time")
    other = random_network(small_config(), seed=2)
    save_checkpoint(other, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    read = dict(Checkpoint.open(folder).network().named_parameters())
    assert all(torch.equal(read[name], parameter) for name, parameter in other.named_parameters())
    save_checkpoint(network, folder, shard_bytes=300_000)
    read = dict(Checkpoint.open(folder).network().named_parameters())
    assert all(torch.equal(read[name], parameter) for name, parameter in network.named_parameters())


def test_a_failure_on_the_way_leaves_the_old_checkpoint_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    network = random_network(small_config())
    save_checkpoint(network, folder)
    before = Checkpoint.open(folder).fingerprint

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unwritable) as caught:
        save_checkpoint(random_network(small_config(), seed=9), folder)
    assert str(caught.value) == f"{folder}: can't write the checkpoint: the disk is full"
    assert Checkpoint.open(folder).fingerprint == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BtError, match="can't write the checkpoint"):
        save_checkpoint(random_network(small_config()), tmp_path / "file" / "run")


def test_a_file_in_the_folders_place_is_named_and_kept(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(Unwritable, match=r"out is a file; name a folder for the checkpoint, a new one or an old one$"):
        save_checkpoint(random_network(small_config()), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_new_folder_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    save_checkpoint(random_network(small_config()), tmp_path / "saved")
    (tmp_path / "other").mkdir()
    assert (tmp_path / "saved").stat().st_mode == (tmp_path / "other").stat().st_mode
