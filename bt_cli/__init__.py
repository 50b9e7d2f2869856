"""BridgeTower at the shell and from Python: `bt_cli.load("tiny")` gives a model that encodes, scores and fills masks,
`bt_cli.Index.open(folder)` an index to search.

What this module exports is public and stays; the rest may move. Importing it costs nothing: torch and the others are
imported when a name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bt_cli.version import __version__

if TYPE_CHECKING:
    from bt_cli.captions.captions import read_captions
    from bt_cli.checkpoints.checkpoint import Checkpoint
    from bt_cli.checkpoints.saving import save_checkpoint
    from bt_cli.errors import (
        BadConfig,
        BadInput,
        BadTokenizer,
        BrokenCheckpoint,
        BrokenIndex,
        BtError,
        CheckpointMismatch,
        DownloadFailed,
        EmptyFolder,
        IndexBusy,
        IndexMismatch,
        MissingHead,
        Misuse,
        NoDevice,
        NoEngine,
        NoIndex,
        NoMask,
        NotFound,
        Offline,
        UnfinishedShards,
        UnknownModel,
        UnreadableCaptions,
        UnreadableImage,
        UnreadableRun,
        UnreadableTable,
        UnsafePickle,
        Unwritable,
    )
    from bt_cli.evaluation.captioned_images import evaluate
    from bt_cli.inference.model import Model, load
    from bt_cli.metrics.recall import metrics_from_scores
    from bt_cli.pretrained.configuration import BridgeTowerConfig, BridgeTowerTextConfig, BridgeTowerVisionConfig
    from bt_cli.pretrained.head_models import (
        BridgeTowerForContrastiveLearning,
        BridgeTowerForImageAndTextRetrieval,
        BridgeTowerForMaskedLM,
    )
    from bt_cli.pretrained.model import BridgeTowerModel
    from bt_cli.pretrained.pretrained_model import BridgeTowerPreTrainedModel
    from bt_cli.processing.image_processor import BridgeTowerImageProcessor, BridgeTowerImageProcessorPil
    from bt_cli.processing.processor import BridgeTowerProcessor
    from bt_cli.search.candidates import Hit
    from bt_cli.search.index import Index

__all__ = [
    "BadConfig",
    "BadInput",
    "BadTokenizer",
    "BridgeTowerConfig",
    "BridgeTowerForContrastiveLearning",
    "BridgeTowerForImageAndTextRetrieval",
    "BridgeTowerForMaskedLM",
    "BridgeTowerImageProcessor",
    "BridgeTowerImageProcessorPil",
    "BridgeTowerModel",
    "BridgeTowerPreTrainedModel",
    "BridgeTowerProcessor",
    "BridgeTowerTextConfig",
    "BridgeTowerVisionConfig",
    "BrokenCheckpoint",
    "BrokenIndex",
    "BtError",
    "Checkpoint",
    "CheckpointMismatch",
    "DownloadFailed",
    "EmptyFolder",
    "Hit",
    "Index",
    "IndexBusy",
    "IndexMismatch",
    "MissingHead",
    "Misuse",
    "Model",
    "NoDevice",
    "NoEngine",
    "NoIndex",
    "NoMask",
    "NotFound",
    "Offline",
    "UnfinishedShards",
    "UnknownModel",
    "UnreadableCaptions",
    "UnreadableImage",
    "UnreadableRun",
    "UnreadableTable",
    "UnsafePickle",
    "Unwritable",
    "__version__",
    "evaluate",
    "load",
    "metrics_from_scores",
    "read_captions",
    "save_checkpoint",
]

HOMES: dict[str, str] = {
    "BridgeTowerConfig": "bt_cli.pretrained.configuration",
    "BridgeTowerImageProcessor": "bt_cli.processing.image_processor",
    "BridgeTowerImageProcessorPil": "bt_cli.processing.image_processor",
    "BridgeTowerProcessor": "bt_cli.processing.processor",
    "BridgeTowerForContrastiveLearning": "bt_cli.pretrained.head_models",
    "BridgeTowerForImageAndTextRetrieval": "bt_cli.pretrained.head_models",
    "BridgeTowerForMaskedLM": "bt_cli.pretrained.head_models",
    "BridgeTowerModel": "bt_cli.pretrained.model",
    "BridgeTowerPreTrainedModel": "bt_cli.pretrained.pretrained_model",
    "BridgeTowerTextConfig": "bt_cli.pretrained.configuration",
    "BridgeTowerVisionConfig": "bt_cli.pretrained.configuration",
    "Checkpoint": "bt_cli.checkpoints.checkpoint",
    "Hit": "bt_cli.search.candidates",
    "Index": "bt_cli.search.index",
    "Model": "bt_cli.inference.model",
    "evaluate": "bt_cli.evaluation.captioned_images",
    "load": "bt_cli.inference.model",
    "metrics_from_scores": "bt_cli.metrics.recall",
    "read_captions": "bt_cli.captions.captions",
    "save_checkpoint": "bt_cli.checkpoints.saving",
}
HOMES |= {name: HOMES.get(name, "bt_cli.errors") for name in __all__ if name != "__version__"}
"""Where each public name lives; those not named above are errors."""


def __getattr__(name: str) -> Any:
    """Import a public name from its room when it is asked for (PEP 562)."""
    if name not in HOMES:
        raise AttributeError(f"module 'bt_cli' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *HOMES])
