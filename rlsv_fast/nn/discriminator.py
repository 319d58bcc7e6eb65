"""A discriminator of pairs of representations, after mutual-information estimation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlsv_fast.ops import _check


class Discriminator(nn.Module):
    r"""Tells whether two representations come from the same source.

    .. math::
        e(A) &= \max(0, \mathrm{GLU}(\mathrm{conv}_3(A)) + A) \\
        z(A) &= \mathrm{mean}_t \, \mathrm{GroupNorm}_1(e(A)) \\
        h(A, A') &= \max(0, W_1 [z(A); z(A')] + b_1) \\
        D(A, A') &= w \max(0, W_2 \, h(A, A') + b_2)

    The published code reshapes (C, T) to (T, C) where it means to transpose, so that its mean runs
    over a mixture of both axes; here it runs over frames.

    Args:
        components: channels C of the representations.
        latent: size of the last hidden layer.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, components: int = 800, latent: int = 100) -> None:
        super().__init__()
        name = type(self).__name__
        self.components = _check.integer(name, "components", components, 1)
        _check.integer(name, "latent", latent, 1)
        self.embedding = nn.Conv1d(components, 2 * components, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(1, components)
        self.join = nn.Linear(2 * components, components)
        self.reduce = nn.Linear(components, latent)
        self.classify = nn.Linear(latent, 1, bias=False)
        for layer in (self.embedding, self.join, self.reduce, self.classify):
            nn.init.xavier_uniform_(layer.weight)

    def embed(self, representation: Tensor) -> Tensor:
        """Embed representations, shape (B, C, T), non-negative; the shape stays.

        Raises:
            ValueError: not of shape (B, C, T).
        """
        if representation.dim() != 3 or representation.shape[1] != self.components:
            raise ValueError(
                f"Discriminator: representation must have shape (B, C, T) with "
                f"C = {self.components}, got {tuple(representation.shape)}"
            )
        gated = nn.functional.glu(self.embedding(representation), dim=1)
        return torch.relu(gated + representation)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Score pairs of representations.

        Args:
            first: shape (B, C, T).
            second: shape (B, C, T).

        Returns:
            Logits, shape (B,): positive where the pair seems to be of one source.
        """
        pair = torch.cat([self.norm(self.embed(item)).mean(-1) for item in (first, second)], dim=1)
        hidden = torch.relu(self.reduce(torch.relu(self.join(pair))))
        logits: Tensor = self.classify(hidden)
        return logits.squeeze(1)

    @staticmethod
    def loss(
        positive: Tensor,
        negative: Tensor,
        *,
        positive_weight: Tensor | None = None,
        negative_weight: Tensor | None = None,
    ) -> Tensor:
        r"""Binary cross-entropy of both kinds of pairs, halved, from logits.

        .. math:: -\tfrac12 (\mathrm{mean} \log \sigma(p) + \mathrm{mean} \log(1 - \sigma(n)))

        Args:
            positive: logits of pairs of one source.
            negative: logits of pairs of two sources.
            positive_weight: of each positive pair in the mean, such as 0 for silence; default 1.
            negative_weight: of each negative pair.

        Returns:
            A scalar; a mean without any weight is 0.
        """
        softplus = nn.functional.softplus
        same = _weighted_mean(softplus(-positive), positive_weight)
        return 0.5 * (same + _weighted_mean(softplus(negative), negative_weight))


def _weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return values.mean()
    total = weight.sum()
    return (weight * values).sum() / torch.where(total > 0, total, 1)
