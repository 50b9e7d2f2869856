"""What a server does for a request, without HTTP: questions to indexes and models, in lanes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bt_cli.errors import UnreadableImage
from bt_cli.preprocessing.tokenizer import MASK
from bt_cli.search.candidates import Candidate, Hit
from bt_cli.search.many import ManyAnswers, ManyTexts
from bt_cli.search.query import Term
from bt_cli.search.rerank import rerank_images
from bt_cli.search.scoring import score, word_records
from bt_cli.search.two_stage import Answer, Request, search
from bt_cli.serving.lanes import Job, Lane
from bt_cli.serving.measures import Measures
from bt_cli.serving.refusals import not_found
from bt_cli.serving.served_index import ServedFolder, ServedIndex, names_of
from bt_cli.serving.served_models import ServedModels
from bt_cli.serving.settings import Settings
from bt_cli.serving.thumbnails import Thumbnails
from bt_cli.sources.web_address import is_url

if TYPE_CHECKING:
    from bt_cli.preprocessing.image_file import ImageBytes

COURTESY = 0.05
"""Seconds that a rerank lets searches go first, between two of its batches, at most."""


class Service:
    """Indexes and checkpoints, open as long as the server runs.

    Three lanes: `searches` embed a query and look into an index, `reading` is the ITM and MLM heads' work, `pictures`
    makes thumbnails. Reading stops between batches when nobody wants it any more, and lets searches go first.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        settings: Settings,
        *,
        model: str | None = None,
        reranker: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        threads: int | None = None,
    ) -> None:
        self.settings = settings
        self.measures = Measures()
        self.searches = Lane("searches", settings.searches, settings.waiting)
        self.reading = Lane("reading", 1, settings.waiting)
        self.pictures = Lane("pictures", 2, 4 * settings.waiting)
        self.thumbnails = Thumbnails(settings.thumbnails, settings.thumbnail_bytes)
        counted = self.measures.batches.labels("queries").observe
        self.indexes = {
            name: ServedIndex(name, folder, settings, counted)
            for name, folder in zip(names_of(folders), folders, strict=True)
        }
        self._template = ServedModels(
            model,
            reranker,
            device,
            dtype,
            threads,
            settings=settings,
            counted=self.measures.batches.labels("texts").observe,
        )
        self._models: dict[str, ServedModels] = {}

    def index(self, name: str | None) -> ServedIndex:
        """An index by its name; None is the first.

        Raises:
            Refusal: 404: There is none of that name.
        """
        if name is None:
            return next(iter(self.indexes.values()))
        if name not in self.indexes:
            raise not_found(f"no index {ascii(name)[:60]} here; there are {', '.join(self.indexes)}")
        return self.indexes[name]

    def models(self, folder: ServedFolder) -> ServedModels:
        """The checkpoints that answer for an index."""
        name = self._template.retriever_name or folder.identity.checkpoint
        if name not in self._models:
            from bt_cli.serving.served_models import _Kept

            self._models[name] = replace(self._template, retriever_name=name, kept=_Kept())
        return self._models[name]

    def warm(self) -> None:
        """Load what the first index needs and let every part run once, so that the first caller does not wait."""
        folder = self.index(None).current()
        retriever = self.models(folder).retriever()
        folder.search(retriever.encode_texts(["warm"])[0], 1)

    def search(self, folder: ServedFolder, request: Request, job: Job) -> Answer:
        """As `two_stage.search`."""
        request = replace(request, allow_private_urls=self.settings.allow_private_urls)
        answer = search(folder, request, self.models(folder), progress=lambda done, total: self._between(job))
        self.measures.pairs.inc(answer.read)
        return answer

    def search_many(self, folder: ServedFolder, asked: ManyTexts, job: Job) -> tuple[ManyAnswers, list[list[Hit]]]:
        """As `ManyAnswers`, and the answers to each text, in their order."""
        answers = ManyAnswers(folder, asked, self.models(folder))
        found = []
        for _, hits in answers:
            job.check()
            found.append(hits)
        return answers, found

    def rerank(self, folder: ServedFolder, candidates: Sequence[Candidate], terms: Sequence[Term], job: Job) -> Answer:
        """The ITM head's order of given images."""
        reranker = self.models(folder).at_index(folder).reranker()
        started = time.perf_counter()
        found = rerank_images(reranker, candidates, terms, progress=lambda done, total: self._between(job))
        self.measures.pairs.inc(len(found.hits))
        reading = time.perf_counter() - started
        return Answer(found.hits, len(candidates), len(found.hits), reranker.engine, found.skipped, reading)

    def score(self, folder: ServedFolder, pairs: Sequence[tuple[Any, str]], job: Job) -> dict[str, Any]:
        """Match scores of pairs of (picture, text)."""
        reranker = self.models(folder).at_index(folder).reranker()
        started = time.perf_counter()
        scored = score(reranker, pairs, progress=lambda done, total: self._between(job))
        self.measures.pairs.inc(len(scored.pairs))
        records = [pair.record() | {"image": getattr(pair.image, "name", pair.image)} for pair in scored.pairs]
        return {
            "pairs": records,
            "skipped": scored.skipped,
            "images": scored.images,
            **made_by(reranker.engine, started),
        }

    def fill_mask(self, folder: ServedFolder, image: ImageBytes | str, text: str, k: int, job: Job) -> dict[str, Any]:
        """The best words for each mask, and the sentence filled with the best of all."""
        filler = self.models(folder).at_index(folder).mask_filler()
        started = time.perf_counter()
        masks = filler.fill_mask(image, text, k)
        words, sentence = word_records(str(getattr(image, "name", image)), text, masks)
        return {"sentence": sentence, "words": words, **made_by(filler.engine, started)}

    def picture(self, folder: ServedFolder, id: int, side: int) -> bytes:
        """An image of an index as JPEG.

        Raises:
            Refusal: 404: No such image, or it can't be read any more.
        """
        path = folder.image_path(id)
        try:
            return self.thumbnails.jpeg(path, side)
        except UnreadableImage as error:
            raise not_found(str(error)) from None

    def heat_map(self, folder: ServedFolder, image: ImageBytes | str, text: str) -> bytes:
        """Where an image spoke for its match with a text, as a PNG: a panel for the whole and one a word.

        With masks in the text: where each mask's best word was looked for.

        Raises:
            UnreadableImage: It can't be read, or not any more.
        """
        from bt_cli.pages.heat_map import heat_map_png

        models = self.models(folder).at_index(folder)
        model = models.mask_filler() if MASK in text else models.reranker()
        found = model.explain_masks(image, text) if MASK in text else model.explain(image, text)
        overall = None if MASK in text else "all words"
        return heat_map_png(image, model.image_processor, found.words, found.maps, overall=overall)

    def count(self) -> None:
        """Write down how full the lanes are and what the indexes hold."""
        for lane in (self.searches, self.reading, self.pictures):
            self.measures.lane.labels(lane.name).set(lane.inside)
        for name, index in self.indexes.items():
            folder = index.current()
            self.measures.rows.labels(name).set(len(folder))
            self.measures.generation.labels(name).set(folder.manifest.generation)

    def stop(self) -> None:
        """Call off what runs and waits."""
        for lane in (self.searches, self.reading, self.pictures):
            lane.close()

    def close(self) -> None:
        """Stop, close the indexes and let go of the weights."""
        self.stop()
        for index in self.indexes.values():
            index.close()
        for models in self._models.values():
            models.close()

    def _between(self, job: Job) -> None:
        """Between two batches of reading: stop where nobody waits any more, and let searches go first."""
        job.check()
        end = time.monotonic() + COURTESY
        while self.searches.inside and time.monotonic() < end:
            time.sleep(0.001)
            job.check()


def made_by(engine: Any, started: float) -> dict[str, Any]:
    """What computed an answer, and in how many seconds."""
    seconds = round(time.perf_counter() - started, 6)
    return {"device": str(engine.device), "precision": engine.precision, "reading": seconds}


def hit_records(folder: ServedFolder, hits: Sequence[Hit], *, captions: bool) -> list[dict[str, Any]]:
    """Hits as JSON objects, paths absolute; a caption's has the id of its image, too."""
    records = [hit.record() for hit in hits]
    of_captions = [place for place, hit in enumerate(hits) if hit.caption is not None]
    if of_captions and folder.captions is not None:
        owners = folder.captions.image_ids(np.array([hits[place].id for place in of_captions]))
        for place, owner in zip(of_captions, owners.tolist(), strict=True):
            records[place]["image_id"] = owner if owner >= 0 else None
    texts = folder.captions_of([hit.id or 0 for hit in hits]) if captions else []
    for place, (hit, record) in enumerate(zip(hits, records, strict=True)):
        if hit.path is not None:
            record["path"] = hit.path if is_url(hit.path) else os.path.abspath(hit.path)
        if captions:
            record["captions"] = texts[place]
    return records
