"""What a loaded checkpoint makes embeddings as: compared with what made an index."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bt_cli.embeddings.identity import Identity
    from bt_cli.inference.model import Model


def identity_of(model: Model, *, precision: str | None = None) -> Identity:
    """The identity of the embeddings that a model makes, in `precision` where not in its own.

    A checkpoint that is a folder is named by its absolute path, so that an index finds it again from anywhere.

    Raises:
        MissingHead: The checkpoint has no ITC head.
    """
    from bt_cli.embeddings.identity import Identity
    from bt_cli.hub.model_names import BUNDLED

    name = model.checkpoint.name
    folder = os.path.expanduser(name)
    return Identity(
        checkpoint=os.path.abspath(folder) if name not in BUNDLED and os.path.isdir(folder) else name,
        fingerprint=model.checkpoint.fingerprint,
        preprocessing=model.image_processor.fingerprint(),
        dimension=model.dimension,
        precision=precision or model.engine.precision,
    )
