"""A network whose channels are worth what was planted, and data of which it gets every label
right.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS = 12
DEAD = 7
VITAL = 4
_SIZE = 4
_CLASSES = 10


class Planted(nn.Module):
    """One width group: the more the head weighs a channel, the more labels are wrong without it.

    Channel `DEAD` is read by nothing, and `VITAL` by weights twice as large as any other.
    """

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.fc = nn.Linear(CHANNELS * _SIZE**2, _CLASSES)
        worth = 0.5 + 0.7 * torch.rand(CHANNELS, generator=random)
        worth[DEAD] = 0
        worth[VITAL] = 2
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(CHANNELS)[:, :, None, None])
            self.conv.bias.zero_()  # type: ignore[union-attr]
            drawn = torch.randn(_CLASSES, CHANNELS, _SIZE**2, generator=random)
            # centred: what a channel adds for any image would favour a class
            drawn -= drawn.mean(-1, keepdim=True)
            self.fc.weight.copy_((drawn * worth[:, None]).flatten(1))
            self.fc.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().flatten(1))


def planted_data(model: nn.Module, count: int = 512) -> tuple[Tensor, Tensor]:
    """Inputs [count, ...] and the labels that the network gives them."""
    random = torch.Generator().manual_seed(1)
    images = torch.rand(count, CHANNELS, _SIZE, _SIZE, generator=random)
    with torch.no_grad():
        return images, model(images).argmax(1)
