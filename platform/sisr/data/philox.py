"""Philox4x32-10: random numbers by counter, in integer operations of torch, so that every device makes the same bits.

Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011. https://doi.org/10.1145/2063384.2063405
Words of 32 bits are held in int64, the only type in which all devices multiply two of them without loss.
"""

import math
from typing import TypeAlias

import torch
from torch import Tensor

ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85  # added to the key after each round
LOW = 0xFFFFFFFF  # the 32 bits of a word

Key: TypeAlias = tuple[int, int]
Words: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: Words, key: Key) -> Words:
    """Return the four random words of each counter, which are integers in 0 .. 2**32 - 1 in int64, shapes broadcast."""
    words = torch.broadcast_tensors(*counter)
    c0, c1, c2, c3, p0, p1 = (word.clone(memory_format=torch.contiguous_format) for word in (*words, *words[:2]))
    k0, k1 = key
    for _ in range(ROUNDS):
        # Products overflow into the sign, and shifts carry it down; only c0 and c2 need to be cut back to their 32 bits
        # in between: c1 and c3 are the products' low words with whatever stands above, which the next cut takes away.
        torch.mul(c0, MULTIPLIERS[0], out=p0)
        torch.mul(c2, MULTIPLIERS[1], out=p1)
        torch.bitwise_right_shift(p1, 32, out=c0).bitwise_xor_(c1).bitwise_xor_(k0).bitwise_and_(LOW)
        torch.bitwise_right_shift(p0, 32, out=c2).bitwise_xor_(c3).bitwise_xor_(k1).bitwise_and_(LOW)
        c1, c3, p0, p1 = p1, p0, c1, c3
        k0, k1 = (k0 + WEYL[0]) & LOW, (k1 + WEYL[1]) & LOW
    return c0, c1.bitwise_and_(LOW), c2, c3.bitwise_and_(LOW)


def uniform(key: Key, step: int, examples: range, n: int, device: torch.device | str) -> Tensor:
    """Return float32 numbers (examples, n) uniform in [0, 1), multiples of 2**-24: the same bits on every device."""
    words = _words(key, step, examples, -(-n // 4), device)
    return torch.cat([(word >> 8).float() for word in words], dim=1)[:, :n].mul_(2.0**-24)


def normal(key: Key, step: int, examples: range, n: int, device: torch.device | str) -> Tensor:
    """Return standard normal numbers (examples, n), float32, at most 6.8 in size, by Box and Muller, 1958.

    Logarithm, sine and cosine may differ in their last bits from one device to another.
    """
    words = _words(key, step, examples, -(-n // 4), device)
    numbers = torch.empty(len(examples), 4, words[0].shape[1], device=device)
    _box_muller(*words[:2], numbers[:, 0], numbers[:, 1])
    _box_muller(*words[2:], numbers[:, 2], numbers[:, 3])
    return numbers.flatten(1)[:, :n]


def _words(key: Key, step: int, examples: range, blocks: int, device: torch.device | str) -> Words:
    """Return four words (examples, blocks) each; the counter is block, example and, in two words, step."""
    block = torch.arange(blocks, device=device)[None, :]
    example = torch.arange(examples.start, examples.stop, device=device)[:, None]
    low, high = (torch.full((1, 1), half, device=device) for half in (step & LOW, step >> 32))
    return philox((block, example, low, high), key)


def _box_muller(radius: Tensor, angle: Tensor, one: Tensor, other: Tensor) -> None:
    """Make two independent standard normal numbers, `one` and `other`, of each two random words."""
    length = radius.float().add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
    turned = angle.float().mul_(2.0 * math.pi * 2.0**-32)
    torch.cos(turned, out=one).mul_(length)
    torch.sin(turned, out=other).mul_(length)
