"""Text to ids and back: RoBERTa's byte-level BPE."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bt_cli.errors import BadTokenizer, Misuse
from bt_cli.files.atomic_write import write_whole
from bt_cli.files.json_object import read_json_object, read_text_file
from bt_cli.files.shown_path import shown_path

if TYPE_CHECKING:
    import tokenizers
    from numpy.typing import NDArray

START, PAD, END, UNKNOWN, MASK = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
DEFAULT_MAX_LENGTH = 512
"""RoBERTa has 514 positions, of which padding takes the first two."""
LARGEST_TABLE = 32 << 20
"""Bytes of a tokenizer.json, vocab.json or merges.txt; those of 250,000 words take 17 MiB."""
MOST_MERGES = 1_000_000


class TokenBatch(NamedTuple):
    """Texts as ids, padded to the longest of them."""

    input_ids: NDArray[np.int64]
    """(n, T) int64, padded on the right with the pad id."""
    attention_mask: NDArray[np.int64]
    """(n, T) int64: 1 where there is a token, 0 in the padding."""
    truncated: list[int]
    """Rows whose text was longer than the maximum and lost its end, ascending."""


class Tokenizer:
    """Byte-level BPE with `<s>`, `</s>` around each text; `<mask>` swallows the space before it.

    Holds no changing state: threads may share it.
    """

    def __init__(self, bpe: tokenizers.Tokenizer, *, max_length: int = DEFAULT_MAX_LENGTH, source: str = "") -> None:
        """Takes over `bpe`; `from_folder` and `from_files` build it.

        Args:
            bpe: A byte-level BPE with the five special tokens.
            max_length: Most tokens of a text, `<s>` and `</s>` counted: the model's positions - 2.
            source: What messages call the files.

        Raises:
            BadTokenizer: `<s>`, `</s>` or `<pad>` is missing.
        """
        bpe.no_truncation()
        bpe.no_padding()
        self._bpe = bpe
        self.max_length = max_length
        missing = [token for token in (START, PAD, END) if bpe.token_to_id(token) is None]
        if missing:
            raise BadTokenizer(
                f"{source or 'tokenizer'}: no {' or '.join(missing)} in the vocabulary, so not RoBERTa's"
            )
        # The stubs say int | None; None was refused just above.
        self.start_id = int(bpe.token_to_id(START) or 0)
        self.pad_id = int(bpe.token_to_id(PAD) or 0)
        self.end_id = int(bpe.token_to_id(END) or 0)
        self.mask_id: int | None = bpe.token_to_id(MASK)

    @classmethod
    def from_folder(cls, folder: str | Path, *, max_length: int = DEFAULT_MAX_LENGTH) -> Tokenizer:
        """From tokenizer.json, else vocab.json and merges.txt.

        Raises:
            BadTokenizer: None of them is there, or one is broken.
        """
        folder = Path(folder)
        if (folder / "tokenizer.json").is_file():
            return cls.from_files(tokenizer=folder / "tokenizer.json", max_length=max_length)
        missing = [name for name in ("vocab.json", "merges.txt") if not (folder / name).is_file()]
        if missing:
            raise BadTokenizer(
                f"{shown_path(folder)}: no tokenizer: neither tokenizer.json nor {' and '.join(missing)} is there"
            )
        return cls.from_files(vocab=folder / "vocab.json", merges=folder / "merges.txt", max_length=max_length)

    @classmethod
    def from_files(
        cls,
        *,
        tokenizer: str | Path | None = None,
        vocab: str | Path | None = None,
        merges: str | Path | None = None,
        max_length: int = DEFAULT_MAX_LENGTH,
    ) -> Tokenizer:
        """From `tokenizer` (a tokenizer.json), or from `vocab` and `merges`.

        Raises:
            BadTokenizer: A file is missing, broken, or not byte-level BPE.
        """
        if tokenizer is not None:
            return cls(_from_json(Path(tokenizer)), max_length=max_length, source=shown_path(tokenizer))
        if vocab is None or merges is None:
            raise Misuse("a tokenizer needs tokenizer.json, or both vocab.json and merges.txt")
        return cls(_from_vocab(Path(vocab), Path(merges)), max_length=max_length, source=shown_path(vocab))

    @functools.cached_property
    def vocab_size(self) -> int:
        """One more than the largest id: the least size of a word embedding that serves these ids."""
        return max(self.vocabulary().values()) + 1

    def encode(self, texts: Iterable[str], max_length: int | None = None) -> TokenBatch:
        """Texts to padded ids; those longer than `max_length` tokens lose their end but keep `</s>`.

        Special tokens written in a text (`<mask>`) count as such. Lone surrogates, which a shell makes of bytes that
        aren't UTF-8, become U+FFFD.

        Raises:
            Misuse: A text isn't a string, or `max_length` leaves no room for a token.
        """
        limit = self.max_length if max_length is None else min(max_length, self.max_length)
        if limit < 3:
            raise Misuse(f"max_length is {limit}; at least 3 tokens are needed, two of them <s> and </s>")
        rows = [encoding.ids for encoding in self.encodings(texts)]
        truncated = [row for row, ids in enumerate(rows) if len(ids) > limit]
        for row in truncated:
            rows[row] = [*rows[row][: limit - 1], self.end_id]
        length = max(map(len, rows), default=0)
        input_ids = np.full((len(rows), length), self.pad_id, np.int64)
        attention_mask = np.zeros((len(rows), length), np.int64)
        for row, ids in enumerate(rows):
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        return TokenBatch(input_ids, attention_mask, truncated)

    def encodings(
        self, texts: Iterable[str], *, special: bool = True, offsets: bool = False
    ) -> Sequence[tokenizers.Encoding]:
        """Each text's ids and tokens, whole and unpadded, without `<s>` and `</s>` where `special` is off.

        `offsets` has each token know where in its text it stands, which takes longer. Raises Misuse as `encode`.
        """
        checked = _checked(texts)
        if len(checked) == 1:  # spares the start of a thread pool
            return [self._bpe.encode(checked[0], add_special_tokens=special)]
        encode = self._bpe.encode_batch if offsets else self._bpe.encode_batch_fast
        return encode(checked, add_special_tokens=special)

    def vocabulary(self) -> dict[str, int]:
        """Every token, special ones too, with its id."""
        vocabulary: dict[str, int] = self._bpe.get_vocab(with_added_tokens=True)
        return vocabulary

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """Ids to text; special tokens are left out unless `special`. Bytes that aren't UTF-8 become U+FFFD."""
        return self._bpe.decode([int(each) for each in ids], skip_special_tokens=not special)

    def id_to_token(self, token_id: int) -> str:
        """The vocabulary's spelling, as in `Ġcats` (`Ġ` is a space).

        Raises:
            Misuse: No such id.
        """
        token = self._bpe.id_to_token(int(token_id))
        if token is None:
            raise Misuse(f"no token has the id {token_id}")
        return token

    def token_to_id(self, token: str) -> int | None:
        """The id of a token in the vocabulary's spelling, None where there is no such token."""
        result: int | None = self._bpe.token_to_id(token)
        return result

    def special_ids(self) -> list[int]:
        """The ids of all special tokens, ascending."""
        return sorted(each for each, token in self._bpe.get_added_tokens_decoder().items() if token.special)

    def save(self, folder: str | Path) -> None:
        """Writes tokenizer.json, vocab.json, merges.txt and the tokenizer_config.json that `transformers` reads.

        Raises:
            Unwritable: The folder can't be written.
        """
        folder = Path(folder)
        whole = json.loads(self._bpe.to_str())
        pairs = (merge if isinstance(merge, str) else " ".join(merge) for merge in whole["model"]["merges"])
        vocab = dict(sorted(self.vocabulary().items(), key=lambda item: item[1]))
        mask = {"__type": "AddedToken", "content": MASK, "lstrip": True, "normalized": False, "special": True}
        described = {
            # `transformers` builds a RobertaTokenizer from vocabulary and merges, and so forgets a normalizer.
            "tokenizer_class": "PreTrainedTokenizerFast" if whole.get("normalizer") else "RobertaTokenizer",
            "model_max_length": self.max_length,
            "add_prefix_space": bool((whole.get("pre_tokenizer") or {}).get("add_prefix_space", False)),
            "trim_offsets": True,
            "errors": "replace",
            "bos_token": START,
            "cls_token": START,
            "eos_token": END,
            "sep_token": END,
            "unk_token": UNKNOWN,
            "pad_token": PAD,
            "mask_token": mask | {"rstrip": False, "single_word": False},
        }
        write_whole(folder / "tokenizer.json", json.dumps(whole, ensure_ascii=False))
        write_whole(folder / "vocab.json", json.dumps(vocab, ensure_ascii=False))
        write_whole(folder / "merges.txt", "#version: 0.2\n" + "".join(f"{pair}\n" for pair in pairs))
        write_whole(folder / "tokenizer_config.json", json.dumps(described, indent=2) + "\n")


def _checked(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, (str, bytes)):
        raise Misuse("texts is one string; a list of strings is needed")
    return [_text(text) for text in texts]


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise Misuse(f"a text is a string, not {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        # Halves of a pair find each other; what is left alone has no meaning as text.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _from_json(path: Path) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer as Bpe

    text = read_text_file(path, BadTokenizer, missing_error=BadTokenizer, limit=LARGEST_TABLE)
    try:
        bpe = Bpe.from_str(text)
        kind = type(bpe.model).__name__
    except Exception as error:  # tokenizers raises plain Exception
        raise BadTokenizer(f"{shown_path(path)}: broken: {_one_line(error)}") from error
    if kind != "BPE":
        raise BadTokenizer(f"{shown_path(path)}: a {kind} tokenizer; BridgeTower reads byte-level BPE")
    tokens = bpe.get_added_tokens_decoder().values()
    if any(token.content == MASK and not token.lstrip for token in tokens):
        # transformers 5 writes this flag wrongly when it started from vocab.json. The published weights never saw the
        # lone space that would then stand before each mask.
        whole = json.loads(text)
        for token in whole["added_tokens"]:
            if token["content"] == MASK:
                token["lstrip"] = True
        bpe = Bpe.from_str(json.dumps(whole))
    return bpe


def _from_vocab(vocab_path: Path, merges_path: Path) -> tokenizers.Tokenizer:
    from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
    from tokenizers import Tokenizer as Bpe

    vocab = read_json_object(vocab_path, BadTokenizer, missing_error=BadTokenizer, limit=LARGEST_TABLE)
    if not all(type(each) is int for each in vocab.values()):
        raise BadTokenizer(f"{shown_path(vocab_path)}: broken: an object from token to id is needed")
    missing = [token for token in (START, PAD, END, UNKNOWN) if token not in vocab]
    if missing:
        raise BadTokenizer(f"{shown_path(vocab_path)}: no {', '.join(missing)} in it, so not RoBERTa's")
    merges = []
    text = read_text_file(merges_path, BadTokenizer, missing_error=BadTokenizer, limit=LARGEST_TABLE)
    if text.count("\n") > MOST_MERGES:
        raise BadTokenizer(f"{shown_path(merges_path)}: more than {MOST_MERGES:,} merges, which no vocabulary needs")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = tuple(line.split(" "))
        if len(pair) != 2:
            raise BadTokenizer(f"{shown_path(merges_path)}, line {number}: two pieces are needed: {line!r:.80}")
        merges.append(pair)
    try:
        bpe = Bpe(models.BPE(vocab=vocab, merges=merges))
    except Exception as error:  # tokenizers raises plain Exception
        raise BadTokenizer(f"{shown_path(merges_path)}: doesn't fit the vocabulary: {_one_line(error)}") from error
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.RobertaProcessing((END, vocab[END]), (START, vocab[START]), True, False)
    plain = [AddedToken(token, normalized=False, special=True) for token in (START, PAD, END, UNKNOWN)]
    bpe.add_special_tokens([*plain, AddedToken(MASK, lstrip=True, normalized=False, special=True)])
    return bpe


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
