"""The only door between mathematics and distribution: one optimizer step along a gradient averaged over all workers.

Wrapping networks in DistributedDataParallel gives silently wrong gradients when a gradient penalty has its own
backward pass (pytorch issue 47562). Here the gradient of exactly one loss for exactly one optimizer's parameters is
taken, averaged by one explicit all-reduce, checked and applied; a generator's loss can't touch its judge. The host
never waits for the device in here: whether a gradient is finite, and the loss scale, are tensors like any other.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from sisr.errors import ConfigError
from sisr.training.conditional_step import step_unless

GROWTH_INTERVAL = 2000  # good steps until the fp16 loss scale doubles, as in torch.amp.GradScaler
INITIAL_SCALE = 2.0**16


class Updates:
    """Implements `sisr.recipe.Update` and keeps what it needs between steps."""

    def __init__(
        self,
        optimizers: dict[str, Optimizer],
        *,
        world: int = 1,
        accumulate: int = 1,
        clip_norm: float | None = None,
        scaled: bool = False,
    ) -> None:
        """Watch over optimizers.

        Args:
            optimizers: By the names that logs and errors use.
            world: Workers among which each batch is split; gradients are averaged over them.
            accumulate: Micro-batches per step, averaged before the optimizer moves.
            clip_norm: Largest L2 norm of one optimizer's averaged gradient; None: not clipped.
            scaled: Scale losses against fp16 underflow; a step that overflows is skipped and the scale halved.
        """
        self._names = {id(o): name for name, o in optimizers.items()}
        self._world, self._accumulate, self._clip_norm = world, accumulate, clip_norm
        self._scaled = scaled
        self._scales: dict[str, Tensor] = {}  # by which losses are multiplied, float32
        self._good_steps: dict[str, Tensor] = {}  # since the last one that was not, int64
        if scaled:
            for name, optimizer in optimizers.items():
                device = optimizer.param_groups[0]["params"][0].device
                self._scales[name] = torch.full((), INITIAL_SCALE, device=device)
                self._good_steps[name] = torch.zeros((), dtype=torch.int64, device=device)
        self._begun: dict[str, bool] = dict.fromkeys(optimizers, False)  # have stepped in this process
        self._sums: dict[str, list[Tensor]] = {}
        self._last_micro, self._weight = True, 1.0
        self._moved: set[str] = set()
        self.bad: dict[str, Tensor] = {}  # float32; 1 where a gradient was not finite in the current step, else 0
        self.norms: dict[str, Tensor] = {}  # L2 norm of each optimizer's last averaged gradient, before clipping

    def begin(self, micro: int = 0, weight: float = 1.0) -> None:
        """Say that micro-batch number `micro` of a step begins, whose losses count `weight` times in the average."""
        self._last_micro, self._weight = micro == self._accumulate - 1, weight
        self._moved.clear()
        if micro == 0:
            self.bad = {}
            self._sums.clear()

    def __call__(self, optimizer: Optimizer, loss: Tensor, *, retain_graph: bool = False) -> None:
        """Step `optimizer` along the gradient of `loss`; see `sisr.recipe.Update`."""
        name = self._names[id(optimizer)]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        weighted = loss if self._weight == 1.0 else loss * self._weight
        gradients = self._gradients(
            weighted * self._scales[name] if self._scaled else weighted, parameters, retain_graph
        )
        if self._accumulate > 1:
            gradients = self._accumulated(name, gradients)
            if not self._last_micro:
                return
        # autograd may hand out one tensor for two parameters, or one number stretched over many: never in place.
        if self._world > 1:
            gradients = _averaged(gradients, parameters, self._world)
        if self._scaled:
            gradients = list(torch._foreach_mul(gradients, 1.0 / self._scales[name]))
        self._apply(optimizer, name, parameters, gradients)

    @property
    def skipped(self) -> list[str]:
        """Return which optimizers did not move in the current step; waits for the device."""
        return [name for name, bad in self.bad.items() if bad]

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain numbers; waits for the device."""
        scales = {name: float(self._scales[name]) if self._scaled else 1.0 for name in self._begun}
        good_steps = {name: int(self._good_steps[name]) if self._scaled else 0 for name in self._begun}
        return {"scales": scales, "good_steps": good_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for kept, saved in ((self._scales, state["scales"]), (self._good_steps, state["good_steps"])):
            for name, value in kept.items():
                value.fill_(saved.get(name, value.item()))

    def _gradients(self, loss: Tensor, parameters: list[Tensor], retain_graph: bool) -> list[Tensor]:
        with torch.autocast(loss.device.type, enabled=False):
            found = torch.autograd.grad(loss, parameters, retain_graph=retain_graph, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]

    def _accumulated(self, name: str, gradients: list[Tensor]) -> list[Tensor]:
        if name in self._moved:
            raise ConfigError(
                f"accumulate={self._accumulate} needs a recipe that updates each optimizer once per step, but "
                f"{name} is updated several times: use accumulate=1 and a smaller batch_size or crop"
            )
        self._moved.add(name)
        part = list(torch._foreach_mul(gradients, 1.0 / self._accumulate))
        if name in self._sums:
            torch._foreach_add_(self._sums[name], part)
        else:
            self._sums[name] = part
        return self._sums[name]

    def _apply(self, optimizer: Optimizer, name: str, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        self.norms[name] = norm
        # Every worker sees the same averaged gradient, so every worker skips the same steps.
        bad = (norm * 0.0 != 0.0).float()
        self.bad[name] = torch.maximum(self.bad[name], bad) if name in self.bad else bad
        if self._scaled:
            self._rescale(name, bad)
        if self._clip_norm is not None:
            factor = torch.clamp(self._clip_norm / (norm + 1e-12), max=1.0)
            gradients = list(torch._foreach_mul(gradients, factor))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            # Fused optimizers on CPUs silently misread a gradient that has other strides than its parameter.
            alike = gradient.stride() == parameter.stride()
            parameter.grad = gradient if alike else torch.empty_like(parameter).copy_(gradient)
        self._begun[name] = step_unless(bad, optimizer, begun=self._begun[name])
        optimizer.zero_grad(set_to_none=True)
        # Autocast keeps its half-precision copies of weights until its context ends: these are out of date now.
        torch.clear_autocast_cache()

    def _rescale(self, name: str, bad: Tensor) -> None:
        scale, good_steps = self._scales[name], self._good_steps[name]
        good_steps.copy_(torch.where(bad.bool(), 0, good_steps + 1))
        grown = torch.where(good_steps % GROWTH_INTERVAL == 0, 2.0, 1.0)
        scale.mul_(torch.where(bad.bool(), 0.5, grown)).clamp_(min=1.0)


def _averaged(gradients: list[Tensor], parameters: list[Tensor], world: int) -> list[Tensor]:
    """Return the gradients' means over all workers, each laid out as its parameter; one all-reduce per number type."""
    means = [torch.empty_like(p) for p in parameters]
    for dtype in dict.fromkeys(g.dtype for g in gradients):
        mine = [(g, mean) for g, mean in zip(gradients, means, strict=True) if g.dtype == dtype]
        flat = torch.cat([g.reshape(-1) for g, _ in mine])
        dist.all_reduce(flat)
        flat /= world
        for part, (_, mean) in zip(flat.split([g.numel() for g, _ in mine]), mine, strict=True):
            mean.copy_(part.view(mean.shape))
    return means
