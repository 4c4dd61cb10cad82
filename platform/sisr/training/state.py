"""Everything that a resumed run needs to go on as if it had never stopped."""

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from sisr.data import draws
from sisr.errors import CheckpointError
from sisr.models.weights import first_line
from sisr.training.digest import quick_digest
from sisr.training.session import Session, gather


@dataclass
class TrainingState:
    """The complete state of a run on one worker."""

    parts: dict[str, nn.Module | Optimizer]  # the recipe's
    ema: nn.Module
    others: dict[str, Any]  # updates and guard, which have state_dict and load_state_dict
    step: int = 0  # steps done
    best: dict[str, Any] = field(default_factory=dict)  # step and metrics of the best validation
    draws: int = draws.FORMAT  # of the run's random numbers
    unimproved: int = 0  # validations since the best one that were worse

    def is_finite(self) -> bool:
        """Return whether every network's every value is a finite number."""
        networks = [part for part in (*self.parts.values(), self.ema) if isinstance(part, nn.Module)]
        return all(bool(value.isfinite().all()) for network in networks for value in network.state_dict().values())

    def learning_rates(self) -> dict[str, float]:
        """Return the learning rate of each optimizer's first group, by the optimizer's name."""
        return {n: float(p.param_groups[0]["lr"]) for n, p in self.parts.items() if isinstance(p, Optimizer)}

    def judge(self, done: int, by: str, values: dict[str, float], kept: bool) -> None:
        """Compare a validation with the best one so far, by the metric `by`.

        It is the best only where it is `kept` by a checkpoint. One that is exactly as good, as all are in which the
        generator did not move, is neither better nor worse.
        """
        best = self.best.get(by, float("-inf"))
        if kept and values[by] > best:
            self.best, self.unimproved = {"step": done, "by": by, **values}, 0
        elif self.best and values[by] != best:
            self.unimproved += 1

    def capture(self, session: Session) -> dict[str, Any]:
        """Return a copy of the state of all workers, on the first of them; called by all of them at the same step.

        From a GPU it is copied while the device goes on: complete when the device has done what it was asked before.

        Returns:
            The state, on the CPU; on the other workers an empty dict.

        Raises:
            CheckpointError: Workers hold different weights, which is our mistake and must not be saved.
        """
        state = {
            "step": self.step,
            "best": dict(self.best),
            "draws": self.draws,
            "unimproved": self.unimproved,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "ema": self.ema.state_dict(),
            "others": {name: other.state_dict() for name, other in self.others.items()},
        }
        assert_equal_on_all_workers(state, session)
        random_states = gather(_random_states(), session)
        return {} if session.rank else {**_copied(state), "random": random_states}

    def restore(self, state: dict[str, Any], session: Session) -> None:
        """Take over a captured state.

        Raises:
            CheckpointError: The state is of networks of another shape.
        """
        for name, part in self.parts.items():
            # The configuration decides, not the run that the state is from: it may have had other settings.
            groups = part.param_groups if isinstance(part, Optimizer) else []
            settings = [{name: value for name, value in group.items() if name != "params"} for group in groups]
            try:
                part.load_state_dict(state["parts"][name])
            except (KeyError, RuntimeError, ValueError) as error:
                problem = f"the checkpoint does not fit '{name}' of this recipe: {first_line(error)}"
                raise CheckpointError(problem) from error
            if isinstance(part, Optimizer):
                for group, configured in zip(part.param_groups, settings, strict=True):
                    group.update(configured)
                _lay_out(part)
        self.ema.load_state_dict(state["ema"])
        for name, other in self.others.items():
            other.load_state_dict(state["others"][name])
        self.step, self.best = int(state["step"]), dict(state["best"])
        self.draws, self.unimproved = int(state["draws"]), int(state["unimproved"])
        if session.rank < len(state["random"]):
            # Last of all: building and loading may themselves draw numbers.
            _restore_random_states(state["random"][session.rank])


def assert_equal_on_all_workers(state: Any, session: Session) -> None:
    """Raise CheckpointError unless every worker holds the same values, as far as `quick_digest` sees."""
    if session.world == 1:
        return
    digests = gather(quick_digest(state), session)
    if len(set(digests)) > 1:
        raise CheckpointError(
            f"workers hold different states at the same step: {digests}; this is a bug, please report it"
        )


def assert_same_start(step: int, session: Session) -> None:
    """Raise CheckpointError unless every worker starts from the same step."""
    steps = gather(step, session)
    if len(set(steps)) > 1:
        raise CheckpointError(
            f"workers see different checkpoints (they would start at steps {steps}): "
            "put --runs on storage that all of them share"
        )


def _lay_out(optimizer: Optimizer) -> None:
    """Give restored moments what fused optimizers silently need: their parameter's strides, and a count beside it."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            moments = optimizer.state.get(parameter, {})
            for name, value in moments.items():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    moments[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            if group.get("fused") and "step" in moments:  # the run may have begun with one that was not fused
                moments["step"] = moments["step"].to(parameter.device, torch.float32)


def seed_everything(seed: int) -> None:
    """Seed the global generators, which only code that ignores `Draws` (dropout, say) uses."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _copied(value: Any) -> Any:
    """Copy a state dict with plain dicts only, detached from what training goes on to change, to the CPU."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        if value.device.type == "cpu":
            return value.clone()
        # Into memory that the device writes to by itself: the host does not wait, and the device needs no room for it.
        return torch.empty_like(value, device="cpu", pin_memory=True).copy_(value, non_blocking=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)
    return value


def _random_states() -> dict[str, Any]:
    numpy_state = np.random.get_state(legacy=False)
    inner = {"key": numpy_state["state"]["key"].tolist(), "pos": int(numpy_state["state"]["pos"])}
    rest = {"has_gauss": int(numpy_state["has_gauss"]), "gauss": float(numpy_state["gauss"])}
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": {"bit_generator": numpy_state["bit_generator"], "state": inner, **rest},
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_random_states(states: dict[str, Any]) -> None:
    random.setstate(states["python"])
    inner = {**states["numpy"]["state"], "key": np.array(states["numpy"]["state"]["key"], dtype=np.uint32)}
    np.random.set_state({**states["numpy"], "state": inner})
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
