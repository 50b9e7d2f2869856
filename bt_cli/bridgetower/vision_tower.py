"""The vision tower: a CLIP vision transformer, pre-LN with QuickGELU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bt_cli.bridgetower.attention import QuickGELU, attention, first_row_qkv
from bt_cli.bridgetower.configuration import BridgeTowerVisionConfig
from bt_cli.bridgetower.recompute import run_layer
from bt_cli.errors import BadInput


class VisionBlock(nn.Module):
    """LayerNorm, self-attention, residual; LayerNorm, feed-forward, residual."""

    def __init__(self, config: BridgeTowerVisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.heads
        self.norm_1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.up = nn.Linear(width, 4 * width)
        self.activation: nn.Module = QuickGELU()
        self.down = nn.Linear(4 * width, width)

    def forward(self, states: Tensor, first_only: bool = False) -> Tensor:
        """(B, P, w) to (B, P, w), or to (B, 1, w) for the class token alone."""
        normed = self.norm_1(states)
        if first_only:
            query, key, value = first_row_qkv(self.qkv, normed)
            states = states[:, :1]
        else:
            query, key, value = self.qkv(normed).chunk(3, dim=-1)
        mixed, _ = attention(query, key, value, self.heads)
        states = states + self.out(mixed)
        return states + self.down(self.activation(self.up(self.norm_2(states))))


class VisionTower(nn.Module):
    """Pixels in, hidden states of the last blocks out, each through `norm_post`.

    With `share_layernorm=False` a checkpoint carries one more LayerNorm per block (`separate_norms`). The port's
    multi-modal forward never applies them, and neither does this one: they are kept for the way back to disk.
    """

    def __init__(self, config: BridgeTowerVisionConfig, depth: int) -> None:
        super().__init__()
        self.config = config
        self.depth = depth
        width, eps = config.hidden_size, config.layer_norm_eps
        height, across = config.patch
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.position_embedding = nn.Parameter(torch.empty(config.positions, width))
        self.patch_embedding = nn.Linear(config.num_channels * height * across, width, bias=False)
        self.norm_pre = nn.LayerNorm(width, eps=eps)
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.depth))
        self.norm_post = nn.LayerNorm(width, eps=eps)
        separate = 0 if config.share_layernorm else config.num_hidden_layers
        self.separate_norms = nn.ModuleList(nn.LayerNorm(width, eps=eps) for _ in range(separate))
        self.recompute = False

    def embed(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 1 + patches, w); rows and columns that fill no whole patch are left out.

        At another size than the checkpoint's own the position table is resized (see `resize_positions`). Raises
        BadInput for images smaller than one patch.
        """
        batch, channels, height, width = pixel_values.shape
        patch_height, patch_width = self.config.patch
        rows, columns = height // patch_height, width // patch_width
        if not rows * columns:
            raise BadInput(
                f"images of {width} x {height} pixels hold no patch of {patch_width} x {patch_height}; the size in the "
                "checkpoint's preprocessor_config.json is too small"
            )
        pixels = pixel_values[:, :, : rows * patch_height, : columns * patch_width]
        cells = pixels.reshape(batch, channels, rows, patch_height, columns, patch_width).permute(0, 2, 4, 1, 3, 5)
        patches = self.patch_embedding(cells.reshape(batch, rows * columns, -1).to(self.class_embedding.dtype))
        states = torch.cat([self.class_embedding.expand(batch, 1, -1), patches], dim=1)
        return self.norm_pre(states + resize_positions(self.position_embedding, self.config.grid, (rows, columns)))

    def forward(self, pixel_values: Tensor, last: int, first_only: bool = False) -> list[Tensor]:
        """States (B, P, w) after each of the `last` blocks and `norm_post`, the deepest at the end.

        With `first_only` the deepest one is (B, 1, w): the class token alone.
        """
        states = self.embed(pixel_values)
        hidden_states = []
        for depth, block in enumerate(self.blocks[: self.depth], start=1):
            states = run_layer(self.recompute, block, states, first_only and depth == self.depth)
            if depth > self.depth - last:
                hidden = states.detach() if self.config.stop_gradient else states
                hidden_states.append(self.norm_post(hidden))
        return hidden_states


def resize_positions(table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Position table (1 + rows * columns, w) from the grid `old` to `new`.

    Row 0 (the class token) stays, the grid is resized bicubically with align_corners=False and no antialiasing, as the
    original code and the port do.
    """
    if old == new:
        return table
    grid = table[1:].float().reshape(1, *old, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, size=new, mode="bicubic", align_corners=False)
    return torch.cat([table[:1], resized.permute(0, 2, 3, 1).reshape(new[0] * new[1], -1).to(table.dtype)])
