"""Ids, equal to the reference's on thousands of strings; and files that can't be a tokenizer."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_cli.errors import BadTokenizer, Misuse
from bt_cli.preprocessing.tokenizer import Tokenizer

PIECES = [
    *[
        "a",
        "the",
        "cat",
        "dog",
        "<mask>",
        "<mask><mask>",
        "</s>",
        "<s>",
        "<pad>",
        "looking",
        "out",
        "it's",
        "we'll",
        "I'M",
    ],
    *["windows", "1234", "3.14", "...", "!?", "--", "/", "\\", "café"],
    *[
        "naïve",
        "Straße",
        "ﬁ",
        "日本語",
        "你好世界",
        "안녕",
        "привет",
        "שלום",
        "مرحبا",
        "हिन्दी",
        "ไทย",
        "e\u0301",
        "\u200d",
    ],
    *[
        "😀",
        "👨‍👩‍👧‍👦",
        "🇩🇪",
        "👍🏽",
        "\U0001f9a5",
        "\U0010ffff",
        "\ufeff",
        "\u2028",
        "\u3000",
        "\xa0",
        "\x00",
        "\x07",
        "\x1b[0m",
        "\x7f",
    ],
    *[" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "<", ">", "<mask", "mask>", "< mask >", "<MASK>", "Ġ", "##ing"],
    *[
        "#hashtag",
        "@user",
        "http://a.b/c?d=e&f",
        "snake_case",
        "CamelCase",
        "ALLCAPS",
        "x" * 40,
        "ab" * 30,
        "9" * 25,
        "é" * 20,
    ],
]


def strings() -> list[str]:
    """3,000 strings, always the same: mixtures of the pieces, raw code points of every plane, and long ones."""
    rng = random.Random(11)
    mixed = [
        "".join(rng.choice(PIECES) + rng.choice(["", "", " "]) for _ in range(rng.randint(0, 14))) for _ in range(2000)
    ]
    planes = [(0, 0x7F), (0, 0x24F), (0, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)]
    raw = ["".join(chr(rng.randint(*rng.choice(planes))) for _ in range(rng.randint(1, 40))) for _ in range(990)]
    long = [
        "the cat sat on the mat " * 400,
        "x" * 10_000,
        "🐈" * 3000,
        "\n" * 2000,
        " " * 3000,
        "<mask>" * 700,
        "é\x00" * 2000,
    ]
    return [*mixed, *raw, *long, "", " <mask>", "\t<mask> \n<mask>"]


@pytest.fixture(scope="module")
def roberta(reference: Path) -> Path:
    return reference / "roberta"


@pytest.fixture(scope="module")
def tokenizer(roberta: Path) -> Tokenizer:
    return Tokenizer.from_folder(roberta)


@pytest.fixture(scope="module")
def from_tables(roberta: Path) -> Tokenizer:
    return Tokenizer.from_files(vocab=roberta / "vocab.json", merges=roberta / "merges.txt")


def test_known_ids(tokenizer: Tokenizer) -> None:
    batch = tokenizer.encode(["a <mask> looking out of the window", "Hello world", ""])
    assert batch.input_ids.tolist() == [
        [0, 102, 50264, 546, 66, 9, 5, 2931, 2],
        [0, 31414, 232, 2, 1, 1, 1, 1, 1],
        [0, 2, 1, 1, 1, 1, 1, 1, 1],
    ]
    assert batch.attention_mask.tolist() == [[1] * 9, [1] * 4 + [0] * 5, [1] * 2 + [0] * 7]
    assert batch.truncated == []
    assert batch.input_ids.dtype == batch.attention_mask.dtype == np.int64
    assert (tokenizer.start_id, tokenizer.pad_id, tokenizer.end_id, tokenizer.mask_id) == (0, 1, 2, 50264)
    assert (tokenizer.vocab_size, tokenizer.special_ids()) == (50265, [0, 1, 2, 3, 50264])


@pytest.mark.parametrize("path", ["tokenizer.json", "vocab.json"])
def test_ids_equal_the_reference(roberta: Path, tokenizer: Tokenizer, from_tables: Tokenizer, path: str) -> None:
    """The reference is what transformers makes of tokenizer.json: one text at a time, cut at 512."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(roberta / "tokenizer.json"))
    ours = tokenizer if path == "tokenizer.json" else from_tables
    texts = strings()
    batch = ours.encode(texts)
    lengths = batch.attention_mask.sum(axis=1)
    for row, (text, expected) in enumerate(
        zip(texts, theirs(texts, truncation=True, max_length=512)["input_ids"], strict=True)
    ):
        assert batch.input_ids[row, : lengths[row]].tolist() == expected, repr(text)
    assert batch.input_ids.shape == (len(texts), 512)
    assert [len(texts[row]) > 500 for row in batch.truncated] == [True] * len(batch.truncated)
    assert len(batch.truncated) >= 5


def test_the_mask_without_its_flag_would_be_noticed(roberta: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    """The trap: a mask that leaves the space before it. Files that say so are mended on reading."""
    import tokenizers

    whole = json.loads((roberta / "tokenizer.json").read_text())
    whole["added_tokens"][-1]["lstrip"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    text = "a <mask> looking"
    unmended = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text).ids
    expected = tokenizer.encode([text]).input_ids[0].tolist()
    assert unmended != expected
    assert Tokenizer.from_folder(tmp_path).encode([text]).input_ids[0].tolist() == expected


def test_what_the_file_says_about_truncation_and_padding_is_left_aside(roberta: Path, tmp_path: Path) -> None:
    whole = json.loads((roberta / "tokenizer.json").read_text())
    whole["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    whole["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 1,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    batch = Tokenizer.from_folder(tmp_path).encode(["one two three four five"])
    assert batch.input_ids.shape == (1, 7)
    assert batch.truncated == []


def test_512_fit_and_513_do_not(tokenizer: Tokenizer) -> None:
    batch = tokenizer.encode([" cat" * 510, " cat" * 511, "short"])
    assert batch.input_ids.shape == (3, 512)
    assert batch.truncated == [1]
    np.testing.assert_array_equal(batch.input_ids[0], batch.input_ids[1])
    assert batch.input_ids[1, -1] == 2


def test_the_models_positions_bound_the_callers_wish(roberta: Path) -> None:
    small = Tokenizer.from_folder(roberta, max_length=10)
    assert small.encode([" cat" * 50], max_length=40).input_ids.shape == (1, 10)
    assert small.encode([" cat" * 50], max_length=5).input_ids.tolist() == [[0, 4758, 4758, 4758, 2]]
    with pytest.raises(Misuse, match="max_length is 2; at least 3"):
        small.encode(["cat"], max_length=2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_rows_do_not_depend_on_their_batch(texts: list[str]) -> None:
    tokenizer = _shared()
    batch = tokenizer.encode(texts)
    for row, text in enumerate(texts):
        alone = tokenizer.encode([text]).input_ids[0]
        length = int(batch.attention_mask[row].sum())
        np.testing.assert_array_equal(batch.input_ids[row, :length], alone)
        assert (batch.input_ids[row, length:] == tokenizer.pad_id).all()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_decoding_gives_the_text_back(text: str) -> None:
    tokenizer = _shared()
    ids = tokenizer.encode([text]).input_ids[0]
    if not set(ids[1:-1].tolist()) & set(tokenizer.special_ids()):
        assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, special=True).startswith("<s>")


_TOKENIZERS: list[Tokenizer] = []


@pytest.fixture(autouse=True)
def _shared_tokenizer(tokenizer: Tokenizer) -> None:
    _TOKENIZERS[:] = [tokenizer]


def _shared() -> Tokenizer:
    return _TOKENIZERS[0]


def test_several_masks_and_the_filled_sentence(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(["<mask> cats  <mask> on a <mask>."]).input_ids[0]
    assert (ids == tokenizer.mask_id).nonzero()[0].tolist() == [1, 3, 6]
    filled = np.where(ids == tokenizer.mask_id, tokenizer.token_to_id("Ġcats"), ids)
    assert tokenizer.decode(filled) == " cats cats cats on a cats."
    assert tokenizer.decode(ids, special=True) == "<s><mask> cats <mask> on a<mask>.</s>".replace(" <mask>", "<mask>")
    assert tokenizer.id_to_token(4758) == "Ġcat"
    assert tokenizer.token_to_id("no such token") is None
    with pytest.raises(Misuse, match="no token has the id 50265"):
        tokenizer.id_to_token(50265)


def test_decoding_half_a_character(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(["🦥"]).input_ids[0]
    assert tokenizer.decode(ids[:2]) == "\ufffd"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("caf\udce9", "caf\ufffd"),
        ("\ud83d\ude00", "😀"),
        ("a\ud83d", "a\ufffd"),
        ("\ud83d b", "\ufffd b"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
    ],
)
def test_lone_surrogates(tokenizer: Tokenizer, text: str, meant: str) -> None:
    assert tokenizer.encode([text]).input_ids.tolist() == tokenizer.encode([meant]).input_ids.tolist()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([1], "a text is a string, not int"),
        (["a", None], "a text is a string, not NoneType"),
        ([b"a"], "a text is a string, not bytes"),
        ("a", "texts is one string; a list of strings is needed"),
    ],
)
def test_what_is_no_text(tokenizer: Tokenizer, texts: object, message: str) -> None:
    with pytest.raises(Misuse) as caught:
        tokenizer.encode(texts)
    assert str(caught.value) == message


def test_no_texts(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode([]).input_ids.shape == (0, 0)


@pytest.mark.parametrize("source", ["tokenizer.json", "vocab.json"])
def test_saving_gives_the_same_ids_to_us_and_to_transformers(
    tokenizer: Tokenizer, from_tables: Tokenizer, source: str, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    original = tokenizer if source == "tokenizer.json" else from_tables
    folder = tmp_path / "saved"
    original.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        *["merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"]
    ]
    texts = strings()[::7]
    expected = original.encode(texts).input_ids
    np.testing.assert_array_equal(Tokenizer.from_folder(folder).encode(texts).input_ids, expected)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    found = theirs(texts, truncation=True, padding=True, return_tensors="np")["input_ids"]
    np.testing.assert_array_equal(found, expected)
    assert (theirs.mask_token_id, theirs.pad_token_id, theirs.model_max_length) == (50264, 1, 512)
    (folder / "tokenizer.json").unlink()
    np.testing.assert_array_equal(Tokenizer.from_folder(folder).encode(texts).input_ids, expected)


def test_the_saved_tables_are_the_originals(roberta: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    assert json.loads((tmp_path / "vocab.json").read_text()) == json.loads((roberta / "vocab.json").read_text())
    assert (tmp_path / "merges.txt").read_text().split("\n")[1:] == (roberta / "merges.txt").read_text().split("\n")[1:]


SMALL = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "b": 5, "ab": 6, "<mask>": 7}


def write_tables(folder: Path, vocab: object = SMALL, merges: str = "#version: 0.2\na b\n") -> Path:
    (folder / "vocab.json").write_text(vocab if isinstance(vocab, str) else json.dumps(vocab))
    (folder / "merges.txt").write_text(merges)
    return folder


def test_a_small_vocabulary(tmp_path: Path) -> None:
    small = Tokenizer.from_folder(write_tables(tmp_path))
    assert small.encode(["ab <mask>b"]).input_ids.tolist() == [[0, 6, 7, 5, 2]]
    assert (small.vocab_size, small.mask_id) == (8, 7)


def test_a_vocabulary_without_mask_gets_one_at_its_end(tmp_path: Path) -> None:
    vocab = {token: each for token, each in SMALL.items() if token != "<mask>"}
    assert Tokenizer.from_folder(write_tables(tmp_path, vocab)).mask_id == 7


def refusal(folder: Path) -> str:
    with pytest.raises(BadTokenizer) as caught:
        Tokenizer.from_folder(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(folder), "DIR")


def test_missing_files(tmp_path: Path) -> None:
    said = "DIR: no tokenizer: neither tokenizer.json nor vocab.json and merges.txt is there"
    assert refusal(tmp_path) == said
    (tmp_path / "vocab.json").write_text("{}")
    assert refusal(tmp_path) == "DIR: no tokenizer: neither tokenizer.json nor merges.txt is there"
    with pytest.raises(Misuse, match=r"needs tokenizer\.json, or both"):
        Tokenizer.from_files(vocab=tmp_path / "vocab.json")
    with pytest.raises(BadTokenizer, match="no such file"):
        Tokenizer.from_files(tokenizer=tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("vocab", "merges", "said"),
    [
        ("{", "", "DIR/vocab.json: not valid JSON (Expecting property name"),
        ("[1]", "", "DIR/vocab.json: holds a list, but has to be a JSON object"),
        ({**SMALL, "x": "y"}, "", "DIR/vocab.json: broken: an object from token to id is needed"),
        ({"a": 0}, "", "DIR/vocab.json: no <s>, <pad>, </s>, <unk> in it, so not RoBERTa's"),
        (SMALL, "#version: 0.2\na b c\n", "DIR/merges.txt, line 2: two pieces are needed: 'a b c'"),
        (SMALL, "a b\n<html>\n", "DIR/merges.txt, line 2: two pieces are needed: '<html>'"),
        (SMALL, "a q\n", "DIR/merges.txt: doesn't fit the vocabulary: "),
    ],
)
def test_broken_tables(vocab: object, merges: str, said: str, tmp_path: Path) -> None:
    assert refusal(write_tables(tmp_path, vocab, merges)).startswith(said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "DIR/tokenizer.json: broken: "),
        (b"{}", "DIR/tokenizer.json: broken: "),
        (b"<html>404</html>", "DIR/tokenizer.json: broken: "),
        (b"\xff\xfe{", "DIR/tokenizer.json: not UTF-8 text (byte 0)"),
        (
            b'{"version":"1.0","model":{"type":"WordPiece","vocab":{"a":0},"unk_token":"a",'
            b'"continuing_subword_prefix":"##","max_input_chars_per_word":9}}',
            "DIR/tokenizer.json: a WordPiece tokenizer; BridgeTower reads byte-level BPE",
        ),
        (
            b'{"version":"1.0","model":{"type":"BPE","vocab":{"a":0},"merges":[]}}',
            "DIR/tokenizer.json: no <s> or <pad> or </s> in the vocabulary, so not RoBERTa's",
        ),
    ],
)
def test_a_broken_tokenizer_json(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    assert refusal(tmp_path).startswith(said)


def test_a_truncated_download(roberta: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((roberta / "tokenizer.json").read_bytes()[:1_000_000])
    assert refusal(tmp_path).startswith("DIR/tokenizer.json: broken: ")


def test_more_merges_than_any_vocabulary_needs_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}))
    (tmp_path / "merges.txt").write_bytes(b"a b\n" * 1_000_001)
    with pytest.raises(BadTokenizer) as caught:
        Tokenizer.from_folder(tmp_path)
    assert str(caught.value) == f"{tmp_path / 'merges.txt'}: more than 1,000,000 merges, which no vocabulary needs"
    with open(tmp_path / "merges.txt", "wb") as file:
        file.truncate((32 << 20) + 1)
    with pytest.raises(BadTokenizer, match=r"merges\.txt: more than 32 MiB, too large for what it is named$"):
        Tokenizer.from_folder(tmp_path)
