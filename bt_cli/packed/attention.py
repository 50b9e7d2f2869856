"""Attention without gradients: the kernel that is fastest where we run, and the short cuts that few rows allow.

Queries come in already divided by the square root of the head's width (`linear` weights carry it).
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from bt_cli.packed.processor import usable_flags


def attend(qkv: Tensor, heads: int, keep: Tensor | None = None) -> Tensor:
    """Self-attention of packed queries, keys and values (B, N, 3h), to (B, N, h); `keep` (B, N) bool, True = seen."""
    batch, length, width = qkv.shape
    parts = qkv.view(batch, length, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4)
    if not _products_win(qkv):
        mask = None if keep is None else keep[:, None, None, :]
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=mask, scale=1.0)
        return mixed.transpose(1, 2).reshape(batch, length, width // 3)
    query, key, value = parts.contiguous().view(3, batch * heads, length, -1)
    scores = torch.bmm(query, key.transpose(1, 2))
    if keep is not None:
        scores.view(batch, heads, length, length).masked_fill_(~keep[:, None, None, :], float("-inf"))
    torch.softmax(scores, -1, out=scores)
    mixed = torch.bmm(scores, value).view(batch, heads, length, -1)
    return mixed.transpose(1, 2).reshape(batch, length, width // 3)


def _products_win(states: Tensor) -> bool:
    """Whether plain products beat torch's fused attention: on a CPU in bfloat16 without AMX, in 0.6 of its time."""
    return states.device.type == "cpu" and states.dtype == torch.bfloat16 and not _amx()


@functools.cache
def _amx() -> bool:
    return "amx_bf16" in usable_flags()


def split_rows(weight: Tensor, heads: int) -> Tensor:
    """A weight (h, in) by heads: (heads, d, in), a view."""
    return weight.view(heads, -1, weight.shape[1])


def read_by_few(query: Tensor, states: Tensor, key_weight: Tensor, value_weight: Tensor, value_bias: Tensor) -> Tensor:
    """Attention of few queries (B, Q, h) to many `states` (B, N, in), whose keys and values are never made.

    `q . (W_k x) = (q W_k) . x`, so each query goes through the key weights instead of each state; likewise the mixture
    of states goes through the value weights, not each state. The key bias adds the same to all scores of a query and
    falls out of the softmax. `key_weight`, `value_weight` (heads, d, in), `value_bias` (h,). Returns (B, Q, h).
    """
    batch, few, width = query.shape
    heads, depth, inner = key_weight.shape
    by_head = query.view(batch * few, heads, depth).transpose(0, 1)
    through = torch.bmm(by_head, key_weight).view(heads, batch, few, inner).permute(1, 0, 2, 3)
    scores = torch.bmm(through.reshape(batch, heads * few, inner), states.transpose(1, 2))
    mixture = torch.bmm(scores.softmax(-1), states).view(batch, heads, few, inner).transpose(0, 1)
    mixed = torch.bmm(mixture.reshape(heads, batch * few, inner), value_weight.transpose(1, 2))
    return mixed.transpose(0, 1).reshape(batch, few, width) + value_bias


def read_few(
    states: Tensor,
    key: Tensor,
    value: Tensor,
    query_weight: Tensor,
    query_bias: Tensor,
    out_weight: Tensor,
    keep: Tensor | None,
) -> Tensor:
    """Attention of many `states` (B, N, in) to few keys and values (B, K, h), output projection included.

    The other way round than `read_by_few`: the keys go through the query weights and the values through the output
    weights, so no state passes either. `query_weight` (heads, d, in) and `query_bias` (heads, d), scaled;
    `out_weight` (heads, d, out); `keep` (B, K) bool. Returns (B, N, out) without the output bias.
    """
    batch, few, _ = key.shape
    heads, depth, inner = query_weight.shape
    key_by_head = key.reshape(batch * few, heads, depth).transpose(0, 1)
    value_by_head = value.reshape(batch * few, heads, depth).transpose(0, 1)
    through = torch.bmm(key_by_head, query_weight).view(heads, batch, few, inner).permute(1, 0, 2, 3)
    outward = torch.bmm(value_by_head, out_weight).view(heads, batch, few, -1).permute(1, 0, 2, 3)
    constant = torch.bmm(key_by_head, query_bias[:, :, None]).view(heads, batch, 1, few).permute(1, 2, 0, 3)
    if keep is not None:
        constant = constant.masked_fill(~keep[:, None, None, :], float("-inf"))
    through = through.reshape(batch, heads * few, inner).transpose(1, 2)
    scores = torch.baddbmm(constant.reshape(batch, 1, heads * few), states, through)
    map_ = scores.view(batch, -1, heads, few).softmax(-1).view_as(scores)
    return torch.bmm(map_, outward.reshape(batch, heads * few, -1))
