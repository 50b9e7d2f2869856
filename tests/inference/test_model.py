"""The Python face, on a small random checkpoint."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from random_checkpoint import random_checkpoint

import bt_cli
from bt_cli.errors import MissingHead, Misuse, NoMask, UnreadableImage
from bt_cli.inference import lazy_network, matching
from bt_cli.inference.model import Model

TEXTS = ["a cat", "two dogs in a car", "x", "a rather longer text than the others are", "a cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint(tmp_path_factory.mktemp("checkpoint") / "whole")


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return bt_cli.load(folder, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    rng = np.random.default_rng(5)
    place = tmp_path_factory.mktemp("images")
    for number in range(7):
        pixels = rng.integers(0, 256, (70 + 9 * number, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return [str(place / f"{number}.png") for number in range(7)]


def plain_logits(model: Model, folder: Path, image: str, text: str) -> np.ndarray[Any, Any]:
    """One pair through the plain network, nothing shared."""
    network = model.checkpoint.network()
    tokens = model.tokenizer.encode([text])
    pixels, _ = model.image_processor.batch([image])
    with torch.inference_mode():
        inputs = (torch.from_numpy(part) for part in (pixels, tokens.input_ids, tokens.attention_mask))
        out = network(*inputs)
    assert out.itm_logits is not None
    return out.itm_logits[0].numpy()


def test_embeddings_have_norm_one_and_no_neighbours(model: Model, images: list[str]) -> None:
    together = model.encode_images(images)
    assert together.dtype == np.float32
    assert together.shape == (7, model.dimension)
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() < 1e-6
    for batch_size in (1, 3):
        assert np.abs(model.encode_images(images[::-1], batch_size=batch_size)[::-1] - together).max() < 1e-5
    texts = model.encode_texts(TEXTS)
    assert np.abs(texts[0] - texts[4]).max() < 1e-6
    assert np.abs(np.concatenate([model.encode_texts([text]) for text in TEXTS]) - texts).max() < 1e-5


def test_scores_are_those_of_the_plain_network(model: Model, folder: Path, images: list[str]) -> None:
    scores = model.itm(images, TEXTS)
    assert scores.shape == (7, 5, 2)
    for row, column in ((0, 0), (3, 1), (6, 3), (2, 2)):
        plain = plain_logits(model, folder, images[row], TEXTS[column])
        assert np.abs(scores[row, column] - plain).max() < 2e-5
    assert np.array_equal(model.score(images, TEXTS), scores[..., 1])


def test_pairs_in_any_order(model: Model, images: list[str]) -> None:
    whole = model.itm(images, TEXTS)
    pairs = [(5, 3), (0, 0), (5, 1), (6, 4), (0, 3), (5, 3)]
    made = model.itm(images, TEXTS, pairs)
    assert np.abs(made - np.stack([whole[pair] for pair in pairs])).max() < 1e-5
    states, texts = model.image_states(images), model.text_states(TEXTS)
    assert np.abs(model.itm_logits(states, texts, pairs) - made).max() < 1e-5


def test_blocks_change_nothing(model: Model, images: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model.itm(images, TEXTS)
    monkeypatch.setattr(matching, "IMAGES_AT_ONCE", 2)
    monkeypatch.setattr(matching, "TEXTS_AT_ONCE", 2)
    heard: list[tuple[int, int]] = []
    again = model.itm(images, TEXTS, progress=lambda done, total: heard.append((done, total)))
    assert np.abs(again - whole).max() < 1e-5
    assert heard[-1] == (35, 35)
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)


def test_comparing_gives_both_in_one_encoding(model: Model, images: list[str]) -> None:
    itm, itc = model.compare(images, TEXTS)
    assert np.abs(itm - model.itm(images, TEXTS)).max() < 1e-5
    assert np.abs(itc - model.encode_images(images) @ model.encode_texts(TEXTS).T).max() < 1e-5
    _, some = model.compare(images, TEXTS, [(2, 1), (0, 3)])
    assert np.abs(some - [itc[2, 1], itc[0, 3]]).max() < 1e-5


def test_unreadable_images_are_told_and_left_out(model: Model, images: list[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    mixed = [images[0], str(broken), images[1]]
    told: list[tuple[int, str]] = []
    rows = model.encode_images(mixed, on_error=lambda position, error: told.append((position, str(error))))
    assert [position for position, _ in told] == [1]
    assert str(broken) in told[0][1]
    assert np.isnan(rows[1]).all()
    assert np.abs(rows[[0, 2]] - model.encode_images(images[:2])).max() < 1e-5
    logits = model.itm(mixed, TEXTS[:2], on_error=lambda position, error: told.append((position, str(error))))
    assert told[1][0] == 1
    assert np.isnan(logits[1]).all()
    assert np.abs(logits[[0, 2]] - model.itm(images[:2], TEXTS[:2])).max() < 1e-5
    with pytest.raises(UnreadableImage, match="broken.png"):
        model.encode_images(mixed)
    with pytest.raises(UnreadableImage, match="broken.png"):
        model.score(mixed, TEXTS)


def test_masks_are_filled_by_the_plain_networks_best(model: Model, images: list[str]) -> None:
    filled = model.fill_mask(images[0], "a <mask> and <mask> b", k=4)
    assert [len(words) for words in filled] == [4, 4]
    tokens = model.tokenizer.encode(["a <mask> and <mask> b"])
    pixels, _ = model.image_processor.batch([images[0]])
    with torch.inference_mode():
        out = model.checkpoint.network()(torch.from_numpy(pixels), torch.from_numpy(tokens.input_ids))
    places = np.flatnonzero(tokens.input_ids[0] == model.tokenizer.mask_id)
    for words, place in zip(filled, places, strict=True):
        logits = out.mlm_logits[0, int(place)].clone()
        logits[model.tokenizer.special_ids()] = float("-inf")
        chances = logits.softmax(-1)
        assert [token for _, token, _ in words] == chances.topk(4).indices.tolist()
        assert np.abs(np.array([chance for _, _, chance in words]) - chances.topk(4).values.numpy()).max() < 1e-5
        assert all(text == model.tokenizer.decode([token]) for text, token, _ in words)
    with pytest.raises(NoMask, match="no <mask> in 'a cat'"):
        model.fill_mask(images[0], "a cat")
    with pytest.raises(Misuse, match="k=0"):
        model.fill_mask(images[0], "a <mask>", k=0)


def test_only_what_is_needed_is_loaded(folder: Path, images: list[str]) -> None:
    model = bt_cli.load(folder, dtype="float32")
    assert model.parts.towers == set()
    texts = model.encode_texts(TEXTS)
    assert model.parts.towers == {"text"}
    assert model.parts.need({"text"}, {"itc"}).vision_tower is None
    rows = model.encode_images(images)
    assert model.parts.towers == {"text", "vision"}
    assert model.parts.need({"text"}).cross_modal is None
    assert np.array_equal(model.encode_texts(TEXTS), texts)
    model.score(images[:1], TEXTS[:1])
    assert model.parts.towers == {"text", "vision", "cross"}
    assert model.parts.heads == {"itc", "itm"}
    assert np.abs(model.encode_images(images) - rows).max() < 1e-6
    ahead = bt_cli.load(folder, dtype="float32", heads={"itc", "itm"})
    ahead.encode_texts(TEXTS)
    assert ahead.parts.towers == {"text", "vision", "cross"}


def test_threads_may_share_a_model_from_its_first_use(
    folder: Path, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = bt_cli.load(folder, dtype="float32", device="cpu")
    load, both = model.parts._load, threading.Barrier(2)
    met: list[set[str]] = []

    def slowly(towers: set[str], heads: set[str]) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.2)
            met.append(towers)
        both.reset()
        return load(towers, heads)

    monkeypatch.setattr(model.parts, "_load", slowly)
    with ThreadPoolExecutor(2) as threads:
        works = [threads.submit(model.encode_images, images[:2]), threads.submit(model.encode_texts, TEXTS)]
        assert [len(work.result()) for work in works] == [2, 5]
    assert not met
    assert model.parts.towers == {"text", "vision"}
    assert len(model.encode_images(images[:2])) == 2


def test_a_part_that_could_not_be_read_is_not_taken_for_read(
    folder: Path, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = bt_cli.load(folder, dtype="float32", device="cpu")
    model.encode_texts(TEXTS)
    with monkeypatch.context() as patch:
        patch.setattr(lazy_network, "pack_network", failing)
        with pytest.raises(MemoryError):
            model.encode_images(images[:1])
    assert len(model.encode_images(images[:1])) == 1


def failing(*_: object) -> None:
    raise MemoryError


def test_images_of_several_sizes_are_known_again(folder: Path, tmp_path: Path) -> None:
    images = [str(tmp_path / f"{width}.png") for width in (64, 128, 70, 130)]
    for image in images:
        Image.linear_gradient("L").resize((int(Path(image).stem), 64)).save(image)
    vary = tmp_path / "vary"
    shutil.copytree(folder, vary)
    settings = json.loads((vary / "preprocessor_config.json").read_text())
    (vary / "preprocessor_config.json").write_text(
        json.dumps({**settings, "pipeline": "crop", "do_center_crop": False, "size": 64})
    )
    model = bt_cli.load(vary, dtype="float32", device="cpu")
    model.use_bridge_cache(tmp_path / "bridges", limit=1 << 20)
    first = model.score(images, TEXTS)
    assert np.abs(model.score(images, TEXTS) - first).max() < 1e-5
    assert np.abs(model.score(images[::-1], TEXTS)[::-1] - first).max() < 1e-5
    reader = bt_cli.load(vary, dtype="float32", device="cpu")
    assert len(reader.use_bridge_cache(tmp_path / "bridges")) > 0
    assert np.abs(reader.score(images, TEXTS) - first).max() < 1e-5


def test_missing_heads_are_named(tmp_path: Path, images: list[str]) -> None:
    without = bt_cli.load(random_checkpoint(tmp_path / "bare", heads=("itm",)), dtype="float32")
    for work in (lambda: without.encode_images(images), lambda: without.encode_texts(TEXTS), lambda: without.dimension):
        with pytest.raises(MissingHead, match="has no ITC head"):
            work()
    with pytest.raises(MissingHead, match="has no MLM head"):
        without.fill_mask(images[0], "a <mask>")
    assert without.compare(images[:1], TEXTS[:1])[1] is None
    finder = bt_cli.load(random_checkpoint(tmp_path / "finder", heads=("itc", "itc_cross")), dtype="float32")
    with pytest.raises(MissingHead, match="has no ITM head"):
        finder.score(images, TEXTS)
    itm, itc = finder.compare(images, TEXTS)
    assert itm is None
    assert itc.shape == (7, 5)
    with pytest.raises(MissingHead, match="has no ITM head"):
        bt_cli.load(finder.checkpoint, heads={"itm"})


def test_nothing_gives_nothing(model: Model) -> None:
    assert model.encode_images([]).shape == (0, model.dimension)
    assert model.encode_texts([]).shape == (0, model.dimension)
    assert model.itm([], TEXTS).shape == (0, 5, 2)
    assert model.score([], []).shape == (0, 0)
    with pytest.raises(Misuse, match="one string"):
        model.encode_texts("a cat")
    for pairs, reason in (([(0, 1)], "outside"), ([(0, 0, 0)], "whole numbers"), ([(-1, 0)], "outside")):
        with pytest.raises(Misuse, match=reason):
            model.itm([], [], pairs)


def test_one_image_is_no_list_of_images(model: Model, images: list[str]) -> None:
    array = np.asarray(Image.open(images[0]))
    grey = np.asarray(Image.open(images[0]).convert("L"))
    content = Path(images[0]).read_bytes()
    for one in (images[0], Path(images[0]), content, memoryview(content), Image.open(images[0]), array, grey):
        for work in (
            lambda one: model.encode_images(one),
            lambda one: model.image_states(one),
            lambda one: model.itm(one, TEXTS),
            lambda one: model.score(one, TEXTS),
            lambda one: model.compare(one, TEXTS),
        ):
            with pytest.raises(Misuse, match=r"not one image; write \[image\]"):
                work(one)
    expected = model.encode_images([images[0]])
    for several in (array[None], (Path(images[0]),), np.array(images[:1])):
        assert np.abs(model.encode_images(several) - expected).max() < 1e-5


def test_long_texts_are_cut_with_a_warning(model: Model) -> None:
    with pytest.warns(UserWarning, match="text 'w w w .* is longer than 64 tokens: its end is not read"):
        assert model.encode_texts(["w " * 100]).shape == (1, model.dimension)


def test_a_mask_beyond_the_tokens_that_are_read_is_not_passed_over(model: Model, images: list[str]) -> None:
    with pytest.warns(UserWarning, match="text 'a <mask> w w .* is longer than 64 tokens: its end is not read"):
        assert len(model.fill_mask(images[0], "a <mask>" + " w" * 100)) == 1
    for text in ("a <mask>" + " w" * 100 + " <mask>", "a " + " w" * 100 + " <mask>"):
        with pytest.raises(NoMask, match="lies beyond the 64 tokens that are read; shorten the text") as caught:
            model.fill_mask(images[0], text)
        assert len(str(caught.value)) < 130


def test_the_network_is_a_module_with_every_field(model: Model) -> None:
    out = model.network(torch.zeros(1, 3, 64, 64), torch.tensor([[0, 7, 2]]), None)
    for field in ("itm_logits", "mlm_logits", "text_embeds", "image_embeds", "cross_embeds"):
        assert getattr(out, field) is not None


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_low_precision_keeps_float32_results(folder: Path, model: Model, images: list[str], precision: str) -> None:
    low = bt_cli.load(folder, dtype=precision, device="cpu")
    rows = low.encode_images(images)
    assert rows.dtype == np.float32
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-6
    assert (rows * model.encode_images(images)).sum(axis=1).min() > 0.998
    assert low.score(images, TEXTS).dtype == np.float32


def test_bridge_cache_saves_the_tower(folder: Path, images: list[str], tmp_path: Path) -> None:
    maker = bt_cli.load(folder, dtype="float32")
    wanted = maker.score(images, TEXTS)
    cache = maker.use_bridge_cache(tmp_path / "bridges", limit=1 << 20)
    pixels, _ = maker.image_processor.batch(images)
    assert np.abs(maker.encode_pixels(pixels, images) - maker.encode_images(images)).max() < 1e-5
    cache.close()
    assert len(cache) == 7
    reader = bt_cli.load(folder, dtype="float32")
    reader.use_bridge_cache(tmp_path / "bridges")
    network = reader.network
    network.vision_tower = None
    assert np.abs(reader.score(images, TEXTS) - wanted).max() < 1e-5
    other = bt_cli.load(folder, dtype="bfloat16")
    assert len(other.use_bridge_cache(tmp_path / "bridges")) == 0


def test_images_seen_before_are_not_encoded_again(folder: Path, images: list[str]) -> None:
    model = bt_cli.load(folder, dtype="float32")
    wanted = model.score(images, TEXTS)
    model.network.vision_tower = None
    assert np.abs(model.score(images[::-1], TEXTS)[::-1] - wanted).max() < 1e-5


def test_any_iterable_of_images_and_texts(model: Model, images: list[str], tmp_path: Path) -> None:
    rows, itm, both = model.encode_images(images), model.itm(images, TEXTS), model.compare(images, TEXTS)
    heard: list[tuple[int, int]] = []
    made = model.encode_images(
        (image for image in images), batch_size=3, progress=lambda done, total: heard.append((done, total))
    )
    assert np.abs(made - rows).max() < 1e-5
    assert heard == [(3, 3), (6, 6), (7, 7)]
    assert np.abs(model.encode_images(dict.fromkeys(images)) - rows).max() < 1e-5
    again = model.image_states(iter(images)).need_bridges()
    assert torch.allclose(again, model.image_states(images).need_bridges(), atol=1e-5)
    assert np.abs(model.encode_texts(iter(TEXTS)) - model.encode_texts(TEXTS)).max() < 1e-6
    assert np.abs(model.itm(iter(images), iter(TEXTS)) - itm).max() < 1e-5
    assert np.abs(model.score(map(str, images), TEXTS) - itm[..., 1]).max() < 1e-5
    pairs = ((image, 1) for image in (4, 2))
    assert np.abs(model.score(iter(images), TEXTS, pairs) - itm[[4, 2], 1, 1]).max() < 1e-5
    for made, expected in zip(model.compare(iter(images), iter(TEXTS)), both, strict=True):
        assert np.abs(made - expected).max() < 1e-5
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    told: list[int] = []
    made = model.encode_images(iter([images[0], broken]), on_error=lambda position, error: told.append(position))
    assert told == [1]
    assert made.shape == rows[:2].shape
    assert np.isnan(made[1]).all()
    assert model.encode_images(iter([])).shape == (0, model.dimension)
    for none in (7, None):
        with pytest.raises(Misuse, match="images have to be a list, not (int|NoneType)"):
            model.encode_images(none)
        with pytest.raises(Misuse, match="texts have to be a list of strings, not (int|NoneType)"):
            model.encode_texts(none)


def test_images_of_a_generator_are_drawn_as_they_are_needed(model: Model, images: list[str]) -> None:
    drawn = 0
    most = 0

    def several() -> Iterator[str]:
        nonlocal drawn
        for image in images * 10:
            drawn += 1
            yield image

    def hear(done: int, total: int) -> None:
        nonlocal most
        most = max(most, drawn - done)

    assert model.encode_images(several(), batch_size=2, progress=hear).shape == (70, model.dimension)
    assert most < 12


def test_a_closed_model_has_no_threads_and_works_again(folder: Path, images: list[str]) -> None:
    before = set(threading.enumerate())
    with bt_cli.load(folder, dtype="float32") as model:
        rows, scores = model.encode_images(images * 3), model.score(images, TEXTS)
    deadline = time.monotonic() + 30
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(threading.enumerate()) - before == set()
    assert model.parts.towers == set()
    assert np.abs(model.encode_images(images * 3) - rows).max() < 1e-5
    assert np.abs(model.score(images, TEXTS) - scores).max() < 1e-5
    model.close()
    model.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_child_encodes_and_scores(folder: Path, images: list[str]) -> None:
    code = """if True:
        import os, signal, sys, bt_cli, torch
        import numpy as np
        torch.set_num_threads(2)
        model, images = bt_cli.load(sys.argv[1], dtype="float32"), sys.argv[2:]
        rows, scores = model.encode_images(images), model.score(images, ["a cat", "a dog"])
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            right = np.abs(model.encode_images(images) - rows).max() < 1e-5
            right &= np.abs(model.score([*images, images[0]], ["a cat", "a dog"])[:-1] - scores).max() < 1e-5
            os._exit(0 if right else 1)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    run = [sys.executable, "-c", code, str(folder), *images]
    assert subprocess.run(run, timeout=100).returncode == 0
