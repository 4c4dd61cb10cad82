"""The weighted sum of a network's loss terms."""

from collections.abc import Mapping

import torch
from torch import Tensor


def weighted(network: str, terms: Mapping[str, tuple[float, Tensor]]) -> dict[str, Tensor]:
    """Return `network/total`, the weighted sum of all terms, and each term unweighted as `network/NAME`.

    Args:
        network: Whose loss it is.
        terms: Weight and value, a scalar, by name; added in this order.
    """
    total = torch.stack([weight * value for weight, value in terms.values()]).sum()
    return {f"{network}/total": total} | {f"{network}/{name}": value for name, (_, value) in terms.items()}
