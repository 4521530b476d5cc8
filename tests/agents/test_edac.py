"""What is EDAC's own."""

import pytest
import torch

from agents.edac import EDAC, similarity


def test_similarity_is_the_mean_cosine_of_different_critics_times_their_number() -> None:
    gradients = torch.randn(2, 5, 7, 3, generator=torch.Generator().manual_seed(0))
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    cosines = torch.stack([torch.cosine_similarity(gradients[:, i], gradients[:, j], dim=-1) for i, j in pairs])
    torch.testing.assert_close(similarity(gradients), 5 * cosines.mean())


def test_one_critic_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^critics: 1 "):
        EDAC(critics=1)
