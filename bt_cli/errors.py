"""What can go wrong for a user, by name.

    BtError
    ├── Misuse               a command or call put together wrongly; exit code 2, all others 1
    ├── NotFound             a file or folder that was named
    ├── Unwritable           a file or folder
    ├── UnreadableImage      images and captions
    ├── UnreadableCaptions
    ├── UnreadableRun
    ├── UnreadableTable
    ├── EmptyFolder
    ├── UnfinishedShards
    ├── NoEngine
    ├── UnknownModel         checkpoints: finding them
    ├── Offline
    ├── DownloadFailed
    ├── BadConfig            reading them
    ├── BadTokenizer
    ├── CheckpointMismatch
    ├── BrokenCheckpoint
    ├── UnsafePickle
    ├── MissingHead          working with them
    ├── BadInput             (a ValueError as well)
    ├── NoDevice
    ├── NoMask
    ├── NoIndex              the index
    ├── BrokenIndex
    ├── IndexMismatch
    └── IndexBusy

Every exception here carries one finished line: what was wrong, with the file or value, and the way out. `commands.app`
alone turns them into a line on stderr and an exit code; library users catch :class:`BtError`, or one by its name.

The names say what happened and don't end in Error, as Python's own do that name an event (`KeyboardInterrupt`,
`StopIteration`) and as `except NotFound` reads: the base says that they are errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class BtError(Exception):
    """Base of everything that bt refuses or fails at; `exit_code` is what the shell sees."""

    exit_code = 1


class Misuse(BtError):
    """The command or call was put together wrongly (an empty query, options that exclude each other)."""

    exit_code = 2


class NotFound(BtError):
    """A file or folder that was named does not exist."""


class UnreadableImage(BtError):
    """A file that is no image, or a broken one.

    Attributes:
        reasons: Where it stands for several images of which none can be read: the reason of each.
    """

    reasons: Sequence[str] = ()


class UnreadableCaptions(BtError):
    """A caption file whose format or line can't be read; the message has the line number."""


class UnreadableRun(BtError):
    """A TREC run, qrels or queries file with a line that can't be read; the message has the line number."""


class UnreadableTable(BtError):
    """A table of embeddings that is damaged, or is none."""


class EmptyFolder(BtError):
    """No image below the folders that were named."""


class UnfinishedShards(BtError):
    """Some shards could not be encoded; all others were."""


class NoEngine(BtError):
    """The engine that is to run the work is not installed, not there, or can't start workers."""


class Unwritable(BtError):
    """A folder or file that can't be written: permissions, a full disk."""


class UnknownModel(BtError):
    """No checkpoint by that name: not bundled, no folder, not on the hub."""


class Offline(BtError):
    """The hub is needed and can't be reached, and nothing is cached."""


class DownloadFailed(BtError):
    """The hub refused (401, 403) or sent a broken file."""


class BadConfig(BtError):
    """A config.json, preprocessor_config.json or recipe with an impossible value, named."""


class BadTokenizer(BtError):
    """Tokenizer files that are missing or don't fit the checkpoint."""


class CheckpointMismatch(BtError):
    """Tensors that are missing or have the wrong shape for the configuration; lists names and shapes."""


class BrokenCheckpoint(BtError):
    """A weights file that is cut short or is not what its name says."""


class UnsafePickle(BtError):
    """A pickle file that asks to run code on loading."""


class MissingHead(BtError):
    """The work needs a head (ITM, MLM, ITC) that the checkpoint does not have."""


class BadInput(BtError, ValueError):
    """A model was called with what it can't compute: no image, more texts than images, ids of another vocabulary."""


class NoDevice(BtError):
    """A device or precision that this machine does not have."""


class NoIndex(BtError):
    """No index where one was expected."""


class BrokenIndex(BtError):
    """An index folder whose files do not fit together."""


class IndexMismatch(BtError):
    """The index was made by another checkpoint, preprocessing or version."""


class IndexBusy(BtError):
    """Another process is writing the index."""


class NoMask(BtError):
    """A fill-mask text without `<mask>`."""
