"""A gallery of fake pictures with its index, and fake checkpoints to search it with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fakes import FakeCaptions, FakeCheckpoint, FakeFolder, FakeModel

from bt_cli.errors import NoIndex, UnknownModel
from bt_cli.search.models import DEFAULT_RERANKER, DEFAULT_RETRIEVER

PICTURES = {
    "a mirror.jpg": "dog left of cat",
    "b right.jpg": "cat left of dog",
    "c car.jpg": "red car",
    "d snow.jpg": "cat snow night",
}
HEADS = {
    "both": {"itc", "itm", "mlm"},
    "finder": {"itc"},
    "reader": {"itm", "mlm"},
    DEFAULT_RETRIEVER: {"itc"},
    DEFAULT_RERANKER: {"itm", "mlm"},
}


@dataclass
class Gallery:
    """The folder, what stands in it, and every model that a command loaded."""

    folder: Path
    index: FakeFolder | None = None
    models: list[FakeModel] = field(default_factory=list)

    @property
    def loaded(self) -> list[str]:
        return [model.checkpoint.name for model in self.models]

    def made_by(self, checkpoint: str) -> None:
        """Index the pictures with a checkpoint."""
        from bt_cli.inference.model_identity import identity_of

        captions = FakeCaptions(["cat left of dog", "dog left of cat", "red car", "green tree"], [1, 0, 2, -1])
        identity = identity_of(FakeModel(FakeCheckpoint(checkpoint, HEADS[checkpoint])))
        self.index = FakeFolder(identity, sorted(PICTURES), captions)


@pytest.fixture
def gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gallery:
    """Fake pictures in the working directory, an index of them made by `both`, and commands that load fakes."""
    import bt_cli.inference.model
    from bt_cli.checkpoints.checkpoint import Checkpoint
    from bt_cli.store.index_folder import IndexFolder

    monkeypatch.chdir(tmp_path)
    for name, shown in PICTURES.items():
        (tmp_path / name).write_text(shown)
    gallery = Gallery(tmp_path)

    def open_checkpoint(name: str, **_: object) -> FakeCheckpoint:
        if name not in HEADS:
            raise UnknownModel(f"{name}: no such checkpoint")
        return FakeCheckpoint(name, HEADS[name])

    def load(checkpoint: FakeCheckpoint | str, *, device: str, dtype: str, heads: set[str], **_: object) -> FakeModel:
        opened = open_checkpoint(checkpoint) if isinstance(checkpoint, str) else checkpoint
        opened.require(set(heads))
        gallery.models.append(FakeModel(opened))
        return gallery.models[-1]

    def locate(explicit: Path | None = None) -> Path:
        if gallery.index is None:
            raise NoIndex("no index here; bt index FOLDER makes one")
        return Path("fake")

    monkeypatch.setattr(Checkpoint, "open", staticmethod(open_checkpoint))
    monkeypatch.setattr(bt_cli.inference.model, "load", load)
    monkeypatch.setattr(IndexFolder, "locate", staticmethod(locate))
    monkeypatch.setattr(IndexFolder, "open", staticmethod(lambda folder: gallery.index))
    gallery.made_by("both")
    return gallery
