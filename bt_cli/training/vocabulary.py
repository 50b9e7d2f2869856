"""A byte-level BPE vocabulary of its own for a network that is trained from nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bt_cli.preprocessing.tokenizer import Tokenizer

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
LARGEST = 8192


def train_tokenizer(texts: Iterable[str], *, max_length: int) -> Tokenizer:
    """Learn merges until each word of the texts is one token; RoBERTa's special tokens, `<mask>` last.

    Unlike RoBERTa's it reads everything in lower case and takes the first word like any other (a space is put before
    it), because small networks have no examples to waste on "Cat" and "cat" at the start of a line.
    """
    from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from tokenizers import Tokenizer as Bpe

    from bt_cli.preprocessing.tokenizer import Tokenizer

    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    bpe = Bpe(models.BPE(unk_token=None))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=LARGEST,
        min_frequency=1,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(words, trainer)
    bpe.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False, special=True)])
    ids = bpe.get_vocab(with_added_tokens=True)
    ends = ("</s>", ids["</s>"]), ("<s>", ids["<s>"])
    bpe.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=True)
    return Tokenizer(bpe, max_length=max_length, source="new vocabulary")
