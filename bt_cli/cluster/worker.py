"""What runs on every worker, whichever engine started it: a checkpoint, checked once, and shard after shard."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import time
from dataclasses import dataclass, field
from typing import Any

from bt_cli.cluster.part_file import read_part, write_list, written_again, written_whole
from bt_cli.cluster.shard import ShardTask, is_of, part_metadata, shard_stamp
from bt_cli.datasets.exclusion import Exclusion
from bt_cli.datasets.passed_over import PassedOver
from bt_cli.embeddings.identity import Identity
from bt_cli.errors import BtError, Misuse, NotFound, UnreadableImage
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.tar_shard import is_shard_name
from bt_cli.sources.web_address import is_url
from bt_cli.version import __version__

EXTRAS = ("pillow_heif", "pillow_jxl", "rawpy")
"""Packages that read further formats: what the driver has, workers must have, or images would be passed over there."""


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker needs to be told, as it can be sent.

    Attributes:
        folder: The working directory that names are meant in.
        checkpoint: Its name or folder.
        identity: What the driver's checkpoint makes; a worker's must make the same.
        device, dtype, batch_size, decoders, threads: As `bt_cli.load` and `ModelEncoder` take them.
        store_dtype: Of the tables.
        exclusion: What is left out.
        keep: Columns of the shards that the tables carry along.
        allow_private: Fetch URLs of private networks, too.
        extras: Names of the packages in `EXTRAS` that the driver has.
        stores: An address in each kind of store that shards or parts are in.
        version: Of bt on the driver.
    """

    folder: str
    checkpoint: str
    identity: Identity
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | None = None
    decoders: int | None = None
    threads: int | None = None
    store_dtype: str = "float16"
    exclusion: Exclusion = field(default_factory=Exclusion)
    keep: tuple[str, ...] = ()
    allow_private: bool = False
    extras: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    version: str = __version__


@dataclass
class Outcome:
    """What became of a shard.

    Attributes:
        images: Encoded.
        failures: (path, reason) of each image that could not be read.
        incomplete: A line for each image that was encoded and lacks some rows.
        passed_over: Files that were not looked at.
        remarks: Lines about columns to keep.
        seconds: That it took.
        reason: Why there is no part, or None where there is one.
        final: Whether another attempt would end in the same way.
        process: Of which process, for whoever looks for it.
    """

    images: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=PassedOver)
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0
    reason: str | None = None
    final: bool = False
    process: int = 0


def installed_extras() -> tuple[str, ...]:
    """Those of `EXTRAS` that are here."""
    return tuple(name for name in EXTRAS if importlib.util.find_spec(name) is not None)


class Worker:
    """Opens the checkpoint and encodes shards into parts.

    Raises:
        NotFound, Misuse, BtError: Something that the driver has is not here, or another; the line names it.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        if settings.version != __version__:
            raise Misuse(f"bt {__version__} here and {settings.version} where the command runs; install the same")
        lacking = sorted(set(settings.extras) - set(installed_extras()))
        if lacking:
            raise Misuse(
                f"{lacking[0]} is not installed here as it is where the command runs; install bridgetower[images]"
            )
        try:
            os.chdir(settings.folder)
        except OSError as error:
            raise NotFound(
                f"{shown_path(settings.folder)}: not here: {error.strerror}; workers need the folder that the command "
                "runs in, by the same path"
            ) from error
        if settings.stores:
            from bt_cli.sources.remote_file import require_store

            for url in settings.stores:
                require_store(url)
        self.encoder = self._encoder()
        settings.identity.require(self.encoder.identity, "this worker's checkpoint")

    def check(self) -> int:
        """The process's id; that it can be asked for says that the worker has begun."""
        return os.getpid()

    def _encoder(self) -> Any:
        from bt_cli.indexing.encoder import ModelEncoder
        from bt_cli.inference.model import load

        settings = self.settings
        model = load(
            settings.checkpoint, device=settings.device, dtype=settings.dtype, heads={"itc"}, threads=settings.threads
        )
        return ModelEncoder(model, batch_size=settings.batch_size, workers=settings.decoders)

    def encode(self, task: ShardTask) -> Outcome:
        """Write the part of a shard, whole or not at all, and beside it the list of what could not be read."""
        started = time.monotonic()
        outcome = Outcome(process=os.getpid())
        try:
            self._encode(task, outcome)
        except BtError as error:
            outcome.reason, outcome.final = str(error), not isinstance(error, _Changed)
        except OSError as error:
            outcome.reason = f"{shown_path(task.source)}: {error.strerror or error}"
        except Exception as error:  # whatever it is, the other shards go on
            outcome.reason = f"{shown_path(task.source)}: {type(error).__name__}: {str(error)[:200]}"
        outcome.seconds = time.monotonic() - started
        return outcome

    def _encode(self, task: ShardTask, outcome: Outcome) -> None:
        from bt_cli.indexing.table import encode_image_table

        settings = self.settings
        with _at_hand(task.source):
            _require_whole(task.source)
            self._require_unchanged(task)
            if self._keeps_anew(task, outcome):
                return
            with written_whole(task.part) as part:
                summary = encode_image_table(
                    [task.source],
                    part,
                    self.encoder,
                    dtype=settings.store_dtype,
                    exclude=settings.exclusion.globs,
                    default_excludes=settings.exclusion.defaults,
                    keep=settings.keep,
                    allow_private=settings.allow_private,
                    metadata=part_metadata(task, settings.exclusion),
                    before_done=lambda found: self._before_done(task, found),
                    remarks=outcome.remarks,
                )
        outcome.images, outcome.failures = summary.encoded, summary.failures
        outcome.incomplete, outcome.passed_over = summary.incomplete, summary.passed_over

    def _keeps_anew(self, task: ShardTask, outcome: Outcome) -> bool:
        """Bring other columns into a part that is current but for these, without encoding; whether there is one."""
        from bt_cli.indexing.table import keep_anew

        settings = self.settings
        part = read_part(task.part)
        if part is None or part.home != os.getcwd():
            return False
        if not is_of(part, task, settings.identity, settings.store_dtype, settings.exclusion):
            return False
        allowed = settings.allow_private
        with written_again(task.part) as table:
            keep_anew(table, [task.source], settings.keep, allow_private=allowed, remarks=outcome.remarks)
            self._require_unchanged(task)
        return True

    def _before_done(self, task: ShardTask, failures: list[tuple[str, str]]) -> None:
        """The part is written and not yet in its place: what goes with it goes first."""
        self._require_unchanged(task)
        lines = [json.dumps({"path": path, "reason": reason}) + "\n" for path, reason in failures]
        write_list(task.failures, "".join(lines))

    def _require_unchanged(self, task: ShardTask) -> None:
        if shard_stamp(task.source, self.settings.exclusion)[0] != task.stamp:
            raise _Changed(f"{shown_path(task.source)}: changed while it was encoded; run the command again")


class _Changed(BtError):
    pass


def _at_hand(source: str) -> contextlib.AbstractContextManager[None]:
    """A tar file elsewhere is copied here for as long as it is encoded: each image would be a request otherwise."""
    if is_url(source) and is_shard_name(source):
        from bt_cli.sources.remote_file import copied_here

        return copied_here(source)
    return contextlib.nullcontext()


def _require_whole(source: str) -> None:
    """Refuse a tar or Parquet file that is cut off or damaged anywhere: its part would lack images in silence."""
    from bt_cli.sources.member import is_container, open_container

    if is_container(source) and (is_url(source) or os.path.isfile(source)):
        damage = open_container(source, asked_now=True).damage
        if damage is not None:
            raise UnreadableImage(f"{shown_path(source)}: shard {damage}")
