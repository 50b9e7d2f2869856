"""The text tower: RoBERTa, post-LN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bt_cli.bridgetower.attention import FeedForward, SelfAttention
from bt_cli.bridgetower.configuration import BridgeTowerTextConfig
from bt_cli.bridgetower.recompute import run_layer


class TextLayer(nn.Module):
    """Self-attention and feed-forward, each followed by its residual and LayerNorm."""

    def __init__(self, config: BridgeTowerTextConfig) -> None:
        super().__init__()
        width, eps, dropout = config.hidden_size, config.layer_norm_eps, config.hidden_dropout_prob
        self.attention = SelfAttention(
            width, config.num_attention_heads, eps, dropout, config.attention_probs_dropout_prob
        )
        self.feed_forward = FeedForward(width, config.intermediate_size, config.hidden_act, eps, dropout)

    def forward(self, states: Tensor, keep: Tensor | None, first_only: bool = False) -> Tensor:
        """(B, T, w) to (B, T, w), or to (B, 1, w) for `<s>` alone; `keep` (B, T) bool masks padding."""
        states, _ = self.attention(states, keep, first_only=first_only)
        return self.feed_forward(states)


class TextTower(nn.Module):
    """Token ids in, hidden states of the last layers out. `pooler` belongs to the checkpoints, nothing uses it."""

    def __init__(self, config: BridgeTowerTextConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width, padding_idx=config.pad_token_id)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(TextLayer(config) for _ in range(config.num_hidden_layers))
        self.pooler = nn.Linear(width, width)
        self.recompute = False

    def embed(self, input_ids: Tensor) -> Tensor:
        """(B, T) int64 to (B, T, w). Positions count the tokens that are not padding, from `pad_token_id + 1`."""
        real = input_ids.ne(self.config.pad_token_id).to(torch.int64)
        positions = real.cumsum(dim=1) * real + self.config.pad_token_id
        states = self.word_embeddings(input_ids) + self.token_type_embeddings.weight[0]
        return self.dropout(self.norm(states + self.position_embeddings(positions)))

    def forward(self, input_ids: Tensor, keep: Tensor | None, last: int, first_only: bool = False) -> list[Tensor]:
        """States (B, T, w) after each of the `last` layers, the deepest at the end.

        `keep` (B, T) bool is None where nothing is padded. With `first_only` the deepest one is (B, 1, w): `<s>` alone.
        """
        states = self.embed(input_ids)
        hidden_states = []
        for depth, layer in enumerate(self.layers, start=1):
            at_end = depth == len(self.layers)
            states = run_layer(self.recompute, layer, states, keep, first_only and at_end)
            if depth > len(self.layers) - last:
                hidden_states.append(states)
        return hidden_states
