"""Where the network looked: which patches of an image a text's words were tied to, weighted by what that did.

An attention map says where a layer looked, not whether it mattered. Weighted with the gradient of the answer, and what
speaks against the answer left out, it says both (Chefer et al., ICCV 2021, "Generic Attention-model Explainability",
equation 5: the mean over heads of the positive part of gradient times map). Which maps are taken, and what was compared
to choose them, stands in `benchmarks/heatmaps.py`, which measures it on drawn scenes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bt_cli.errors import NoMask
from bt_cli.inference.truncation import beginning, warn_of_truncation
from bt_cli.preprocessing.tokenizer import MASK, Tokenizer

if TYPE_CHECKING:
    from bt_cli.bridgetower.network import BridgeTower
    from bt_cli.bridgetower.states import ImageStates, TextStates


class Explanation(NamedTuple):
    """What `Model.explain` and `Model.explain_masks` give: `words, maps = ...`."""

    words: list[str]
    """n words as they were read; for masks, the likeliest word of each."""
    maps: NDArray[np.float32]
    """(n, rows, columns) float32, 0 and up: each word's share in each patch of what the network saw, rows from the top.
    Over all words and patches they add up to 1, or to 0 where nothing spoke for the answer."""


def explain_match(network: BridgeTower, pixels: Tensor, text: str, tokenizer: Tokenizer) -> Explanation:
    """What tied each word to each patch and spoke for a match of `pixels` (1, 3, H, W) with `text`.

    The maps are those of the patches that read words, in every cross-modal layer, weighted with the gradient of the
    match logit over the other; the last layer gives the head its class rows alone, so its patches have no share.
    A text beyond the model's positions loses its end, with a warning. Raises MissingHead without an ITM head.
    """
    ids, rows = _tokens(text, tokenizer)
    image, states = _encoded(network, pixels, ids)
    with torch.enable_grad():
        fusion = network.fuse(image, states, attentions=True)
        assert fusion.pooler_output is not None
        assert fusion.attentions is not None
        logits = network.itm_logits(fusion.pooler_output)[0]
        weighted = weigh([each.image_to_text for each in fusion.attentions], logits[1] - logits[0])
    groups = word_groups(rows, tokenizer)
    maps = torch.stack([weighted[1:, places].sum(-1) for _, places in groups]) if groups else weighted[1:, :0].T
    return Explanation([word for word, _ in groups], _shares(maps, network, pixels))


def explain_masks(network: BridgeTower, pixels: Tensor, text: str, tokenizer: Tokenizer) -> Explanation:
    """Where the network looked for the likeliest word of each `<mask>`.

    The maps are those of the mask reading patches, weighted with the gradient of that word's log-probability. Raises
    NoMask where the text has none that is read, and MissingHead without an MLM head.
    """
    ids, rows = _tokens(text, tokenizer)
    where = [place for place, token in enumerate(rows) if token == tokenizer.mask_id]
    if not where or len(where) < text.count(MASK):
        raise NoMask(f"no {MASK} in what is read of {beginning(text)}; write it where a word is wanted, near the start")
    image, states = _encoded(network, pixels, ids)
    words, maps = [], []
    with torch.enable_grad():
        fusion = network.fuse(image, states, attentions=True)
        assert fusion.text_features is not None
        assert fusion.attentions is not None
        chances = network.mlm_logits(fusion.text_features[0, where]).float()
        chances[:, [token for token in tokenizer.special_ids() if token < chances.shape[1]]] = float("-inf")
        chances[:, tokenizer.vocab_size :] = float("-inf")
        for place, row in zip(where, chances.log_softmax(-1), strict=True):
            best = int(row.argmax())
            words.append(tokenizer.decode([best]).strip())
            maps.append(weigh([each.text_to_image for each in fusion.attentions], row[best])[place, 1:])
    return Explanation(words, _shares(torch.stack(maps), network, pixels))


def weigh(maps: Sequence[Tensor], answer: Tensor) -> Tensor:
    """Maps (1, heads, queries, keys) of several layers to one (queries, keys): the positive part of gradient times map,
    mean over heads, summed over layers."""
    gradients = torch.autograd.grad(answer, list(maps), retain_graph=True, allow_unused=True)
    parts = [
        (map_.detach() * gradient).relu()[0].mean(0)
        for map_, gradient in zip(maps, gradients, strict=True)
        if gradient is not None
    ]
    return torch.stack(parts).sum(0) if parts else torch.zeros_like(maps[0][0, 0])


def word_groups(ids: Sequence[int], tokenizer: Tokenizer) -> list[tuple[str, list[int]]]:
    """Words as people write them, each with the places of its tokens: the special tokens at the ends left out.

    A word begins where its token begins with white space (`Ġ` and its like in byte-level BPE), and at `<mask>`.
    """
    special = set(tokenizer.special_ids()) - {tokenizer.mask_id}
    groups: list[list[int]] = []
    for place, token in enumerate(ids):
        if token in special:
            continue
        begins = tokenizer.id_to_token(token)[:1] in "ĠĊĉ" or token == tokenizer.mask_id
        if begins or not groups:
            groups.append([place])
        else:
            groups[-1].append(place)
    named = [(tokenizer.decode([ids[place] for place in group], special=True).strip(), group) for group in groups]
    return [(word, group) for word, group in named if word]


def _tokens(text: str, tokenizer: Tokenizer) -> tuple[Tensor, list[int]]:
    tokens = tokenizer.encode([text])
    warn_of_truncation([text], tokens, tokenizer)
    return torch.from_numpy(tokens.input_ids), tokens.input_ids[0].tolist()


def _encoded(network: BridgeTower, pixels: Tensor, ids: Tensor) -> tuple[ImageStates, TextStates]:
    """Both towers without gradients: the maps' own begin at what fuses."""
    with torch.no_grad():
        image = network.encode_images(pixels, bridges=True, embeds=False)
        states = network.encode_texts(ids.to(pixels.device), bridges=True, embeds=False)
    image.need_bridges().requires_grad_(True)
    states.need_bridges().requires_grad_(True)
    return image, states


def _shares(maps: Tensor, network: BridgeTower, pixels: Tensor) -> NDArray[np.float32]:
    """(n, patches) to (n, rows, columns) float32 with the sum 1, or 0."""
    patch = network.config.vision_config.patch
    rows, columns = pixels.shape[2] // patch[0], pixels.shape[3] // patch[1]
    total = float(maps.sum())
    shares = maps / total if total > 0 else torch.zeros_like(maps)
    return shares.reshape(-1, rows, columns).detach().cpu().numpy().astype(np.float32)
