"""Filling `<mask>`s: the words that the MLM head finds likeliest beside an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bt_cli.errors import Misuse, NoMask
from bt_cli.preprocessing.tokenizer import MASK, Tokenizer

if TYPE_CHECKING:
    import torch

    from bt_cli.bridgetower.network import BridgeTower
    from bt_cli.bridgetower.states import ImageStates

Candidate = tuple[str, int, float]


def fill_masks(
    network: BridgeTower, image: ImageStates, text: str, tokenizer: Tokenizer, k: int, device: torch.device
) -> list[list[Candidate]]:
    """For each `<mask>` of `text` the `k` likeliest (token, id, probability), best first; special tokens are no words.

    `image` holds one image. A text beyond the model's positions loses its end, with a warning. Raises NoMask where
    the text has no `<mask>`, or one beyond those positions.
    """
    import torch

    from bt_cli.inference.truncation import beginning, warn_of_truncation

    if k < 1:
        raise Misuse(f"k={k}: at least one word a mask has to be asked for")
    tokens = tokenizer.encode([text])
    where = [place for place, token in enumerate(tokens.input_ids[0].tolist()) if token == tokenizer.mask_id]
    if len(where) < text.count(MASK) and tokens.truncated:
        limit = f"the {tokenizer.max_length} tokens that are read"
        raise NoMask(f"a <mask> of {beginning(text)} lies beyond {limit}; shorten the text")
    if tokenizer.mask_id is None or not where:
        raise NoMask(f"no <mask> in {beginning(text)}; write it where a word is wanted, as in 'a <mask> on a table'")
    warn_of_truncation([text], tokens, tokenizer)
    ids, mask = torch.from_numpy(tokens.input_ids).to(device), torch.from_numpy(tokens.attention_mask).to(device)
    states = network.encode_texts(ids, mask, bridges=True, embeds=False)
    fusion = network.fuse(image, states, wanted="text")
    assert fusion.text_features is not None
    logits = network.mlm_logits(fusion.text_features[0, where]).float()
    special = [token for token in tokenizer.special_ids() if token < logits.shape[1]]
    logits[:, special] = float("-inf")
    logits[:, tokenizer.vocab_size :] = float("-inf")
    best = logits.softmax(-1).topk(min(k, logits.shape[1] - len(special)), dim=-1)
    return [
        [(tokenizer.decode([token]), token, chance) for token, chance in zip(tokens_, chances, strict=True)]
        for tokens_, chances in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def fill(text: str, tokens: Sequence[str]) -> str:
    """Put one token in the place of each `<mask>`; masks without a token stay.

    A token of byte-level BPE carries the space before its word (` cat`), and `<mask>` swallows the one that was written
    there. What was written decides: one space where there was one or where the token begins a word, none at the
    beginning of the text.
    """
    pieces = text.split(MASK)
    filled = pieces[0]
    for place, piece in enumerate(pieces[1:]):
        if place < len(tokens):
            token = tokens[place]
            apart = token[:1].isspace() and filled != "" and not filled[-1].isspace()
            filled += (" " if apart else "") + token.strip()
        else:
            filled += MASK
        filled += piece
    return filled
