"""Learning a code-book by moving averages: start from data, update, restart of dead codes. Not for using one.

With n_i latents of a batch nearest to row e_i and their sum s_i (van den Oord et al. 2017, appendix A.1; Razavi et al.
2019, eq. 4):

    N_i <- decay N_i + (1 - decay) n_i
    m_i <- decay m_i + (1 - decay) s_i
    e_i <- m_i / N'_i,  N'_i = (N_i + epsilon) / (sum N + codes * epsilon) * sum N   (Laplace smoothing)

A row whose N_i falls below a part of the even share, sum N / codes, is dead: it becomes a random latent of the batch
(Dhariwal et al. 2020, section 3.1) and gets the even share as its count, so that it has time to be found.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from d2m_model.codec.jukebox import Codebook


class EmaCodebook(nn.Module):
    """The moving averages beside a code-book; its rows are changed in place, without gradient.

    Args:
        n_codes: rows.
        channels: of a row.
        decay: of the moving averages, 0 to below 1.
        epsilon: of the Laplace smoothing.
        dead_below: part of the even share below which a code is restarted; 0 for never.
    """

    counts: Tensor
    sums: Tensor

    def __init__(
        self, n_codes: int, channels: int, *, decay: float = 0.99, epsilon: float = 1e-5, dead_below: float = 0.1
    ) -> None:
        super().__init__()
        self.decay, self.epsilon, self.dead_below = decay, epsilon, dead_below
        self.register_buffer("counts", torch.zeros(n_codes))
        self.register_buffer("sums", torch.zeros(n_codes, channels))

    @torch.no_grad()
    def start(self, codebook: Codebook, latents: Tensor, generator: torch.Generator) -> None:
        """Take random latents as rows, each with an equal share of what a batch of this size gives.

        Args:
            codebook: whose rows are set.
            latents: (n, channels); fewer than there are codes are taken more than once, with a little noise on them.
            generator: on the CPU.
        """
        rows = _draw(latents.float(), len(self.counts), generator)
        self.adopt(codebook, rows, len(latents))

    @torch.no_grad()
    def adopt(self, codebook: Codebook, rows: Tensor, n_latents: int) -> None:
        """Go on from existing rows (codes, channels), as if each had its equal share of `n_latents` latents."""
        share = n_latents / len(self.counts)
        codebook.k.copy_(rows)
        self.counts.fill_(share)
        self.sums.copy_(rows * share)

    @torch.no_grad()
    def update(self, codebook: Codebook, latents: Tensor, codes: Tensor) -> None:
        """One step of the moving averages, and the rows that follow from them.

        Args:
            codebook: whose rows are set.
            latents: (n, channels).
            codes: (n,) nearest row of each.
        """
        # Sums as a product of matrices: scattered additions on a GPU come in any order, and floats notice.
        chosen = torch.zeros(len(codes), len(self.counts), device=latents.device)
        chosen.scatter_(1, codes[:, None], 1.0)
        self.counts.mul_(self.decay).add_(chosen.sum(0), alpha=1 - self.decay)
        self.sums.mul_(self.decay).add_(chosen.t() @ latents.float(), alpha=1 - self.decay)
        total = self.counts.sum()
        smoothed = (self.counts + self.epsilon) / (total + len(self.counts) * self.epsilon) * total
        codebook.k.copy_(self.sums / smoothed[:, None])

    @torch.no_grad()
    def restart(self, codebook: Codebook, latents: Tensor, generator: torch.Generator) -> int:
        """Put dead codes onto random latents (n, channels); how many they were."""
        share = self.counts.mean()
        dead = (self.counts < self.dead_below * share).nonzero()[:, 0]
        if len(dead):
            rows = _draw(latents.float(), len(dead), generator)
            codebook.k[dead] = rows
            self.counts[dead] = share
            self.sums[dead] = rows * share
        return len(dead)


def _draw(latents: Tensor, wanted: int, generator: torch.Generator) -> Tensor:
    """`wanted` of the latents at random: none twice while there are enough, then again with noise of 1 % of their std.

    Drawn on the CPU, so that every device gets the same.
    """
    order = torch.cat([torch.randperm(len(latents), generator=generator) for _ in range(-(-wanted // len(latents)))])
    rows = latents[order[:wanted].to(latents.device)]
    if wanted > len(latents):
        noise = torch.randn(rows.shape, generator=generator).to(latents.device)
        noise[: len(latents)] = 0
        rows = rows + 0.01 * latents.std(dim=0, correction=0) * noise
    return rows
