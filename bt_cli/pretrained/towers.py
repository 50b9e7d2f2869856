"""The two towers under the hub's names: `text_model` and `vision_model`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bt_cli.bridgetower.configuration import BridgeTowerTextConfig, BridgeTowerVisionConfig
from bt_cli.bridgetower.vision_tower import resize_positions
from bt_cli.errors import BadInput
from bt_cli.pretrained.layers import Pooler, TextLayer, VisionLayer


class TextEmbeddings(nn.Module):
    """Words, positions and RoBERTa's one type of segment, added and normalised."""

    def __init__(self, config: BridgeTowerTextConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.padding_idx = config.pad_token_id
        self.word_embeddings = nn.Embedding(config.vocab_size, width, padding_idx=self.padding_idx)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width, padding_idx=self.padding_idx)

    def forward(self, input_ids: Tensor) -> Tensor:
        """(B, T) int64 to (B, T, w). Positions count the tokens that are not padding, from `padding_idx + 1`."""
        real = input_ids.ne(self.padding_idx).to(torch.int64)
        positions = self.position_embeddings(real.cumsum(dim=1) * real + self.padding_idx)
        segment = self.token_type_embeddings(torch.zeros_like(input_ids))
        return self.dropout(self.LayerNorm(self.word_embeddings(input_ids) + segment + positions))


class TextEncoder(nn.Module):
    """The list of layers."""

    def __init__(self, config: BridgeTowerTextConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(TextLayer(config) for _ in range(config.num_hidden_layers))


class TextModel(nn.Module):
    """RoBERTa. `pooler` belongs to the hub's files and nothing uses it."""

    def __init__(self, config: BridgeTowerTextConfig) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(config)
        self.encoder = TextEncoder(config)
        self.pooler = Pooler(config.hidden_size)


class VisionEmbeddings(nn.Module):
    """Pixels to patches, the class token before them, positions added."""

    def __init__(self, config: BridgeTowerVisionConfig) -> None:
        super().__init__()
        self.grid, self.image, self.patch = config.grid, config.image, config.patch
        self.class_embedding = nn.Parameter(torch.empty(config.hidden_size))
        self.patch_embedding = nn.Conv2d(
            config.num_channels, config.hidden_size, kernel_size=self.patch, stride=self.patch, bias=False
        )
        self.position_embedding = nn.Embedding(config.positions, config.hidden_size)

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """(B, C, H, W) to (B, 1 + patches, w).

        Raises BadInput for another size than the configuration's, unless the position table may be resized to it.
        """
        height, width = pixel_values.shape[-2:]
        self.check_size(height, width, interpolate_pos_encoding)
        patches = self.patch_embedding(pixel_values.to(self.class_embedding.dtype)).flatten(2).transpose(1, 2)
        grid = height // self.patch[0], width // self.patch[1]
        states = torch.cat([self.class_embedding.expand(len(patches), 1, -1), patches], dim=1)
        return states + resize_positions(self.position_embedding.weight, self.grid, grid)

    def check_size(self, height: int, width: int, interpolate_pos_encoding: bool) -> None:
        """Raise BadInput for a size that the position table does not fit and may not be resized to."""
        if not interpolate_pos_encoding and (height, width) != self.image:
            raise BadInput(
                f"pixel_values are {height} x {width}, the model takes {self.image[0]} x {self.image[1]}; "
                "let the processor of the same checkpoint make them, or pass interpolate_pos_encoding=True"
            )
        if height < self.patch[0] or width < self.patch[1]:
            raise BadInput(f"pixel_values of {height} x {width} are less than a patch of {self.patch[0]} pixels")


class VisionTransformer(nn.Module):
    """CLIP's vision transformer: `visual`."""

    def __init__(self, config: BridgeTowerVisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.embeddings = VisionEmbeddings(config)
        self.ln_pre = nn.LayerNorm(width, eps=eps)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(VisionLayer(config) for _ in range(config.depth))
        self.ln_post = nn.LayerNorm(width, eps=eps)
        if not config.share_layernorm:  # in the files; the bridges have always used `ln_post`
            self.ln_separate = nn.ModuleList(nn.LayerNorm(width, eps=eps) for _ in range(config.num_hidden_layers))

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks."""
        blocks = self.transformer.resblocks
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    def forward_pre(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """(B, C, H, W) to what the first block takes, (P, B, w)."""
        return self.ln_pre(self.embeddings(pixel_values, interpolate_pos_encoding)).transpose(0, 1)

    def forward_post(self, states: Tensor) -> Tensor:
        """A block's states (P, B, w) to what the bridges take, (B, P, w)."""
        return self.ln_post(states.transpose(0, 1))


class VisionModel(nn.Module):
    """Holds `visual`."""

    def __init__(self, config: BridgeTowerVisionConfig) -> None:
        super().__init__()
        self.visual = VisionTransformer(config)

    @property
    def dtype(self) -> torch.dtype:
        """Of the tower's parameters."""
        return self.visual.embeddings.class_embedding.dtype
