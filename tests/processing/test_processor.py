"""The documented processor: the same ids and pixels as the port's, in every call that its code makes."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from random_checkpoint import random_checkpoint, write_tokenizer_files

import bt_cli
from bt_cli import BridgeTowerImageProcessor, BridgeTowerProcessor
from bt_cli.errors import BadTokenizer, Misuse, NotFound, UnreadableImage
from bt_cli.preprocessing.tokenizer import Tokenizer
from bt_cli.processing.tokenizer import RobertaTokenizer

transformers = pytest.importorskip("transformers")

TEXTS = ["a <mask> looking out of the window", "Hello world", "", "  naïve 漢字 🙂\n\ttwo  spaces ", "</s> in the text"]


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (70, 90, 3), np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint with a tokenizer of single bytes, at most 64 tokens."""
    return random_checkpoint(tmp_path_factory.mktemp("processor") / "small")


@pytest.fixture(scope="module")
def processor(folder: Path) -> BridgeTowerProcessor:
    return BridgeTowerProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def roberta(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BridgeTowerProcessor, Any]:
    """Ours and the port's processor over RoBERTa's recorded tokenizer.json."""
    target = tmp_path_factory.mktemp("roberta")
    ours = BridgeTowerProcessor(BridgeTowerImageProcessor(), Tokenizer.from_folder(reference / "roberta"))
    ours.save_pretrained(target)
    tokens = {name: getattr(ours.tokenizer, name) for name in ours.tokenizer.special_tokens_map}
    file = str(reference / "roberta" / "tokenizer.json")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=file, model_max_length=512, **tokens)
    return ours, transformers.BridgeTowerProcessor(transformers.BridgeTowerImageProcessorPil(), tokenizer)


def plain(values: Any) -> Any:
    """Tensors, arrays and pairs as lists."""
    values = values.tolist() if hasattr(values, "tolist") else values
    return [plain(each) for each in values] if isinstance(values, (list, tuple)) else values


@pytest.mark.parametrize(
    "options",
    [
        {"padding": True},
        {"padding": "longest", "return_tensors": "pt"},
        {"padding": "max_length", "max_length": 40, "return_tensors": "np"},
        {"padding": "max_length", "truncation": True, "max_length": 6, "return_tensors": "pt"},
        {"padding": "max_length", "return_tensors": "np"},
        {"max_length": 5},
        {"max_length": 5, "truncation": False},
        {"truncation": True, "max_length": 4, "padding": True, "add_special_tokens": False},
        {"truncation": "longest_first", "max_length": 7},
        {"add_special_tokens": False},
        {"return_attention_mask": False},
        {"padding": True, "return_special_tokens_mask": True, "return_length": True},
        {"padding": True, "padding_side": "left", "pad_to_multiple_of": 8},
        {"return_offsets_mapping": True, "padding": True},
        {"text_kwargs": {"padding": True, "max_length": 8, "truncation": True}},
    ],
    ids=str,
)
def test_texts_become_the_ports_ids(roberta: tuple[BridgeTowerProcessor, Any], options: dict[str, Any]) -> None:
    ours, port = roberta
    for text in (TEXTS, TEXTS[:1], TEXTS[0], TEXTS[2]):
        mine, theirs = ours(text=text, **options), port(text=text, **options)
        theirs.pop("token_type_ids", None)  # given by the port's plain class, not by RoBERTa's
        assert set(mine) == set(theirs)
        for name in theirs:
            assert plain(mine[name]) == plain(theirs[name]), (text, name)
            assert type(mine[name]) is type(theirs[name])


def test_published_ids(roberta: tuple[BridgeTowerProcessor, Any]) -> None:
    ours, _ = roberta
    assert ours(text=TEXTS[0]).input_ids == [0, 102, 50264, 546, 66, 9, 5, 2931, 2]
    assert ours(text="Hello world").input_ids == [0, 31414, 232, 2]
    tokenizer = ours.tokenizer
    assert (tokenizer.vocab_size, len(tokenizer), tokenizer.model_max_length) == (50265, 50265, 512)
    assert (tokenizer.mask_token, tokenizer.mask_token_id, tokenizer.pad_token_id) == ("<mask>", 50264, 1)


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_any_text_becomes_the_ports_ids_and_comes_back(roberta: tuple[BridgeTowerProcessor, Any], text: str) -> None:
    ours, port = roberta
    ids = ours(text=text).input_ids
    assert ids == port(text=text).input_ids
    assert ours.decode(ids) == port.decode(ids)
    assert ours.decode(ids, skip_special_tokens=True) == port.decode(ids, skip_special_tokens=True)


def test_a_picture_and_a_text(roberta: tuple[BridgeTowerProcessor, Any]) -> None:
    ours, port = roberta
    mine = ours(picture(), "two cats", return_tensors="pt").to("cpu")
    theirs = port(picture(), "two cats", return_tensors="pt")
    theirs.pop("token_type_ids", None)
    assert set(mine) == set(theirs) == {"input_ids", "attention_mask", "pixel_values", "pixel_mask"}
    for name in theirs:
        assert mine[name].dtype == theirs[name].dtype
        assert torch.equal(mine[name], theirs[name]), name
    assert ours.model_input_names == ["pixel_values", "pixel_mask", "input_ids", "attention_mask"]


def test_either_order_and_each_alone(processor: BridgeTowerProcessor, tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    expected = processor(images=picture(), text="two cats", return_tensors="np")
    images = (picture(), np.asarray(picture()), torch.tensor(np.asarray(picture())), tmp_path / "a.png", [picture()])
    for image in images:
        for arguments in ((image, "two cats"), ("two cats", image)):
            batch = processor(*arguments, return_tensors="np")
            assert list(batch) == list(expected)
            for name in expected:
                np.testing.assert_array_equal(batch[name], expected[name])
    assert set(processor(str(tmp_path / "a.png"), "two cats")) == set(expected)
    assert set(processor(picture())) == {"pixel_values", "pixel_mask"}
    assert set(processor(None, "two cats")) == {"input_ids", "attention_mask"}
    many = processor(["one", "two cats"], [picture(), picture(1)], padding=True, return_tensors="pt")
    assert (many.input_ids.shape, many.pixel_values.shape) == ((2, 10), (2, 3, 64, 64))


def test_options_find_their_side(processor: BridgeTowerProcessor, caplog: pytest.LogCaptureFixture) -> None:
    batch = processor(
        [picture(), picture(1)],
        ["one", "two cats"],
        images_kwargs={"do_normalize": False},
        text_kwargs={"padding": "max_length", "max_length": 12},
        common_kwargs={"return_tensors": "np"},
        size=96,
        crop_size=96,
    )
    assert (batch.input_ids.shape, batch.pixel_values.shape) == ((2, 12), (2, 3, 96, 96))
    assert 0 <= batch.pixel_values.min() <= batch.pixel_values.max() <= 1
    with caplog.at_level(logging.WARNING, "bt_cli"):
        processor(picture(), "one", colour="red")
    assert "no option 'colour'; it has no effect" in caplog.text
    for options, message in (
        ({"images_kwargs": {"size": 64}, "size": 96}, "size is given twice: in images_kwargs and by itself"),
        ({"videos": [1]}, "videos is not taken: BridgeTower sees single images"),
        ({"text_kwargs": {"stride": 3}}, "stride is not taken"),
        ({"padding": "wide"}, "padding is 'wide'; True"),
        ({"truncation": "only_second"}, "truncation is 'only_second'"),
        ({"max_length": 2, "truncation": True}, "max_length is 2; at least 3 tokens"),
        ({"padding_side": "top"}, "padding_side is 'top'"),
        ({"return_tensors": "jax"}, "return_tensors is 'jax'"),
    ):
        with pytest.raises(Misuse, match=message):
            processor(picture(), "one", **options)


def test_what_is_no_input_is_refused(processor: BridgeTowerProcessor) -> None:
    with pytest.raises(Misuse, match="the processor needs images, text, or both"):
        processor()
    with pytest.raises(Misuse, match="text is a string or a list of strings, not int"):
        processor(picture(), 3)
    with pytest.raises(Misuse, match="a text is a string, not int"):
        processor(picture(), ["a", 3])
    with pytest.raises(UnreadableImage, match="no such file"):
        processor("missing.png", "two cats")
    with pytest.raises(Misuse, match="input_ids has rows of unequal size.*pass padding=True"):
        processor(text=["one", "two cats"], return_tensors="pt")
    with pytest.raises(Misuse, match=r"it is BridgeTowerProcessor\(image_processor, tokenizer\)"):
        BridgeTowerProcessor(processor.tokenizer, processor.image_processor)


def test_a_text_longer_than_the_model_takes_is_remarked_on(
    processor: BridgeTowerProcessor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "bt_cli"):
        whole = processor(text="x" * 100)
        assert caplog.messages == ["a text has 102 tokens and the model takes 64: pass truncation=True"]
        caplog.clear()
        cut = processor(text="x" * 100, truncation=True)
        processor(text="x" * 100, verbose=False)
    assert caplog.messages == []
    assert (len(whole.input_ids), len(cut.input_ids), cut.input_ids[-1]) == (102, 64, 2)


def test_ids_of_every_kind_become_text(processor: BridgeTowerProcessor) -> None:
    ids = processor(text="two <mask> cats").input_ids
    for kind in (ids, tuple(ids), np.array(ids), torch.tensor(ids), [torch.tensor(each) for each in ids]):
        assert processor.decode(kind) == "<s>two<mask> cats</s>"
        assert processor.decode(kind, skip_special_tokens=True) == "two cats"
    assert processor.batch_decode(torch.tensor([ids, ids]), skip_special_tokens=True) == ["two cats"] * 2
    assert processor.decode([ids, ids]) == processor.batch_decode([ids, ids])
    assert processor.batch_decode(ids, skip_special_tokens=True) == ["two cats"]
    assert processor.decode(ids[1]) == "t"


def test_cleaning_up_spaces_leaves_the_text_as_it_was_as_in_the_port(roberta: tuple[BridgeTowerProcessor, Any]) -> None:
    ids = roberta[0](text="hello , world . do n't").input_ids
    for processor in roberta:
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": True}
        assert processor.decode(ids, **options) == "hello , world . do n't"
        assert processor.batch_decode([ids], **options) == ["hello , world . do n't"]


@pytest.mark.parametrize("kind", ["pt", "np"])
@pytest.mark.parametrize("text", ["", ["", ""]])
def test_rows_without_a_token_are_whole_numbers_as_in_the_port(
    roberta: tuple[BridgeTowerProcessor, Any], text: Any, kind: str
) -> None:
    mine, theirs = (each(text=text, add_special_tokens=False, return_tensors=kind) for each in roberta)
    for name in ("input_ids", "attention_mask"):
        assert (mine[name].dtype, mine[name].shape) == (theirs[name].dtype, theirs[name].shape)


def test_the_tokenizer_answers_as_robertas(roberta: tuple[BridgeTowerProcessor, Any]) -> None:
    mine, theirs = roberta[0].tokenizer, roberta[1].tokenizer
    ids = theirs(TEXTS[0])["input_ids"]
    assert mine.encode(TEXTS[0]) == ids
    assert mine.tokenize(TEXTS[0]) == theirs.tokenize(TEXTS[0])
    assert mine.convert_ids_to_tokens(ids) == theirs.convert_ids_to_tokens(ids)
    assert mine.convert_ids_to_tokens(ids, skip_special_tokens=True) == theirs.convert_ids_to_tokens(
        ids, skip_special_tokens=True
    )
    assert mine.convert_ids_to_tokens(232) == theirs.convert_ids_to_tokens(232) == "Ġworld"
    tokens = ["Ġworld", "<mask>", "no such token"]
    assert mine.convert_tokens_to_ids(tokens) == theirs.convert_tokens_to_ids(tokens) == [232, 50264, 3]
    assert mine.convert_tokens_to_ids("<pad>") == 1
    assert mine.convert_tokens_to_string(["Hello", "Ġworld"]) == "Hello world"
    assert mine.get_vocab() == theirs.get_vocab()
    names = ("bos", "eos", "cls", "sep", "unk", "pad", "mask")
    assert {f"{name}_token_id": getattr(mine, f"{name}_token_id") for name in names} == {
        f"{name}_token_id": getattr(theirs, f"{name}_token_id") for name in names
    }
    assert mine.special_tokens_map == theirs.special_tokens_map
    assert mine.all_special_ids == theirs.all_special_ids
    assert mine.all_special_tokens == theirs.all_special_tokens
    faces = ("vocab", "truncation_side", "clean_up_tokenization_spaces", "added_tokens_encoder")
    for face in (*faces, "max_len_single_sentence"):
        assert getattr(mine, face) == getattr(theirs, face)
    assert mine.get_added_vocab() == theirs.get_added_vocab()
    for pair in (False, True):
        assert mine.num_special_tokens_to_add(pair=pair) == theirs.num_special_tokens_to_add(pair=pair)
    flat = {"input_ids": [0, 2]}
    assert mine.pad(flat, "max_length", 3).data == theirs.pad(flat, "max_length", 3).data
    assert mine.get_special_tokens_mask(ids, already_has_special_tokens=True) == [1, 0, 1, 0, 0, 0, 0, 0, 1]
    assert mine.get_special_tokens_mask([546]) == [1, 0, 1]
    with pytest.raises(Misuse, match="no token has the id 60000"):
        mine.convert_ids_to_tokens([60000])


def test_rows_are_padded_later(processor: BridgeTowerProcessor) -> None:
    tokenizer = processor.tokenizer
    found = [tokenizer("one"), tokenizer("two cats")]
    batch = tokenizer.pad(found, return_tensors="pt")
    assert torch.equal(batch.input_ids, tokenizer(["one", "two cats"], padding=True, return_tensors="pt").input_ids)
    assert batch.attention_mask.sum(1).tolist() == [5, 10]
    labelled = [{"input_ids": [0, 5, 2], "labels": [-100, 5, -100]}, {"input_ids": [0, 2], "labels": [-100, -100]}]
    padded = tokenizer.pad(labelled, pad_to_multiple_of=4)
    assert padded.data == {
        "input_ids": [[0, 5, 2, 1], [0, 2, 1, 1]],
        "labels": [[-100, 5, -100, -100], [-100] * 4],
        "attention_mask": [[1, 1, 1, 0], [1, 1, 0, 0]],
    }
    padded = tokenizer.pad({"input_ids": [0, 2]}, "max_length", 3, return_tensors="np")
    assert padded.input_ids.tolist() == [[0, 2, 1]]
    with pytest.raises(Misuse, match="needs input_ids"):
        tokenizer.pad([{"labels": [1]}])


def test_what_is_saved_is_read_here_and_by_transformers(processor: BridgeTowerProcessor, tmp_path: Path) -> None:
    written = processor.save_pretrained(tmp_path / "new")
    assert sorted(Path(path).name for path in written) == sorted(path.name for path in (tmp_path / "new").iterdir())
    again = BridgeTowerProcessor.from_pretrained(tmp_path / "new")
    assert (
        again.to_dict() == processor.to_dict() == json.loads((tmp_path / "new" / "processor_config.json").read_text())
    )
    port = transformers.BridgeTowerProcessor.from_pretrained(tmp_path / "new", backend="pil")
    texts = ["two cats", "a <mask> dog"]
    for one in (again, processor):
        mine = one([picture(), picture(1)], texts, padding=True, return_tensors="pt")
        theirs = port([picture(), picture(1)], texts, padding=True, return_tensors="pt")
        for name in mine:
            assert torch.equal(mine[name], theirs[name]), name
    port.save_pretrained(tmp_path / "port")
    from_port = BridgeTowerProcessor.from_pretrained(tmp_path / "port")
    assert from_port.image_processor == processor.image_processor
    assert from_port.tokenizer.model_max_length == 64
    assert from_port(text=texts).input_ids == processor(text=texts).input_ids


def test_a_folder_of_vocabulary_and_merges_will_do(tmp_path: Path) -> None:
    write_tokenizer_files(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"size": 64}')
    processor = BridgeTowerProcessor.from_pretrained(tmp_path, do_normalize=False, model_max_length=30, use_fast=False)
    assert processor.image_processor.do_normalize is False
    assert processor(text="x" * 100, truncation=True).input_ids[-1] == 2
    assert len(processor(text="x" * 100, truncation=True).input_ids) == 30
    assert RobertaTokenizer.from_pretrained(tmp_path).model_max_length == 512
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(BadTokenizer, match="neither tokenizer.json nor merges.txt is there"):
        BridgeTowerProcessor.from_pretrained(tmp_path)
    with pytest.raises(NotFound, match="no checkpoint folder"):
        BridgeTowerProcessor.from_pretrained(tmp_path / "missing")


def test_names_copies_and_repr(processor: BridgeTowerProcessor, caplog: pytest.LogCaptureFixture) -> None:
    tiny = bt_cli.BridgeTowerProcessor.from_pretrained("tiny", colour="red")
    assert "no option 'colour'" in caplog.text
    assert tiny.tokenizer.model_max_length == 64
    assert repr(tiny).startswith("BridgeTowerProcessor:\n- image_processor: BridgeTowerImageProcessor {\n")
    assert "- tokenizer: RobertaTokenizer(vocab_size=" in repr(tiny)
    for again in (copy.deepcopy(processor), pickle.loads(pickle.dumps(processor))):
        assert again(text="two cats").input_ids == processor(text="two cats").input_ids
        assert again.image_processor == processor.image_processor
    with pytest.raises(Misuse, match="hf upload"):
        processor.save_pretrained("never", push_to_hub=True)
