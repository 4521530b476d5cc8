"""What is IQL's own."""

import torch

from agents.iql import expectile_loss


def test_expectile_weighs_positive_differences_by_tau() -> None:
    torch.testing.assert_close(expectile_loss(torch.tensor([2.0]), 0.9), torch.tensor(3.6))
    torch.testing.assert_close(expectile_loss(torch.tensor([-2.0]), 0.9), torch.tensor(0.4))
