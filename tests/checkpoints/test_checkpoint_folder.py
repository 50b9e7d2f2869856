"""A checkpoint found as `from_pretrained` is told, against a hub on loopback: another cache, a revision, no network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hub.fake_hub import FakeHub
from random_checkpoint import random_checkpoint

import bt_cli
from bt_cli.checkpoints.checkpoint_folder import checkpoint_folder
from bt_cli.checkpoints.saving import save_checkpoint
from bt_cli.errors import Offline, UnknownModel
from bt_cli.hub.hub_cache import cache_folder

NAME = "someone/little-tower"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in shards."""
    whole = random_checkpoint(tmp_path_factory.mktemp("hub") / "whole")
    opened = bt_cli.Checkpoint.open(whole)
    folder = whole.with_name("sharded")
    save_checkpoint(opened.network(), folder, image_processor=opened.image_processor(), shard_bytes=1_000_000)
    return folder


@contextmanager
def hub(repositories: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    from huggingface_hub import constants

    with FakeHub(repositories) as running:
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield running


@pytest.fixture
def served(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with hub({NAME: repository}, monkeypatch) as running:
        yield running


def test_another_cache_holds_the_whole_checkpoint(served: FakeHub, repository: Path, tmp_path: Path) -> None:
    model = bt_cli.BridgeTowerModel.from_pretrained(NAME, cache_dir=tmp_path / "mine")
    assert model.config.hidden_size == 64
    assert not (cache_folder() / "models--someone--little-tower").exists()
    folder = checkpoint_folder(NAME, cache_dir=tmp_path / "mine", local_files_only=True)
    assert {path.name for path in repository.iterdir()} <= {path.name for path in folder.iterdir()} | {"README.md"}
    asked = len(served.requests)
    assert checkpoint_folder(NAME, cache_dir=tmp_path / "mine") == folder
    assert len(served.requests) == asked
    checkpoint_folder(NAME, cache_dir=tmp_path / "mine", force_download=True)
    assert len(served.requests) > asked
    with pytest.raises(Offline, match="local_files_only"):
        checkpoint_folder(NAME, local_files_only=True)


def test_the_hubs_own_cache_serves_both_ways_of_loading(served: FakeHub) -> None:
    folder = checkpoint_folder(NAME, revision="main")
    assert folder.is_relative_to(cache_folder())
    assert bt_cli.Checkpoint.open(NAME).folder == folder
    assert checkpoint_folder(NAME, token=False, revision=served.commit(NAME)) == folder


def test_a_subfolder_of_a_repository(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(repository, tmp_path / "several/towers/little")
    (tmp_path / "several/config.json").write_text("{}")
    with hub({NAME: tmp_path / "several"}, monkeypatch) as running:
        where = {"subfolder": "towers/little", "cache_dir": tmp_path / "cache"}
        model = bt_cli.BridgeTowerForImageAndTextRetrieval.from_pretrained(NAME, **where)
        known = bt_cli.Checkpoint.open(repository).network({"itm"}).state_dict()
        assert all(torch.equal(value, known[name]) for name, value in model.state_dict().items() if name in known)
        assert bt_cli.BridgeTowerConfig.from_pretrained(NAME, **where).hidden_size == 64
        images = bt_cli.BridgeTowerImageProcessor.from_pretrained(NAME, **where)
        assert images == bt_cli.BridgeTowerImageProcessor.from_pretrained(repository)
        fetched = {Path(request.path).name for request in running.requests if request.method == "GET"}
        assert "model.safetensors.index.json" in fetched
        asked = len(running.requests)
        bt_cli.BridgeTowerForImageAndTextRetrieval.from_pretrained(NAME, local_files_only=True, **where)
        assert len(running.requests) == asked
        with pytest.raises(UnknownModel, match="has no towers/none/config.json"):
            bt_cli.BridgeTowerModel.from_pretrained(NAME, subfolder="towers/none", cache_dir=tmp_path / "cache")


def test_what_is_not_there(served: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel):
        checkpoint_folder("someone/else", cache_dir=tmp_path)
    with pytest.raises(UnknownModel):
        checkpoint_folder(NAME, revision="gone", cache_dir=tmp_path)
