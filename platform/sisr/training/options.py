"""How a recipe is executed: the settings that are the platform's and not the recipe's own. Imports no torch."""

from typing import Literal

from pydantic import Field, field_validator

from sisr.config.settings import Settings
from sisr.disk.cache import expanded
from sisr.metrics.catalogue import FURTHER_MEANING, PERCEPTUAL_CHOICES, PERCEPTUAL_MEANING, further_names

Precision = Literal["auto", "fp32", "bf16", "fp16", "fp64"]


class Options(Settings):
    """How a recipe is executed; what is learned is the recipe's own `Config`."""

    seed: int = Field(0, ge=0, lt=2**63, description="of the weights, batches and every other random number")
    precision: Precision = Field(
        "auto", description="of the arithmetic; auto: bf16 where the hardware has it, else fp32"
    )
    accumulate: int = Field(1, ge=1, description="micro-batches per step and worker, to save memory")
    clip_norm: float | None = Field(
        None, gt=0, description="largest L2 norm of a network's gradient; null: not clipped"
    )
    ema_half_life_images: float = Field(
        5000, ge=0, description="half-life of the averaged generator, in images; 0: off"
    )
    channels_last: bool = Field(True, description="memory layout; the faster one for convolutions on CPUs and GPUs")
    compile: bool = Field(False, description="compile the networks: a minute at the start, faster steps after")
    capture: Literal["none", "auto"] = Field(
        "none", description="auto: on a GPU, launch each network's work at once, as CUDA graphs; faster small networks"
    )
    deterministic: bool = Field(False, description="exactly repeatable steps on a GPU, too; somewhat slower there")
    threads: int | None = Field(None, ge=1, description="CPU threads per worker; null: its share of the cores")
    evaluate_every: int = Field(
        500, ge=1, description="steps from one validation, sample picture and checkpoint to the next"
    )
    log_every: int = Field(20, ge=1, description="steps from one line of metrics to the next")
    max_bad: float = Field(0.01, ge=0, le=1, description="fraction of image files that may be refused")
    keep_checkpoints: int = Field(2, ge=2, description="newest checkpoints kept, besides the best one")
    validation_side: int = Field(256, ge=16, description="px; larger validation images are cut to their centre")
    perceptual: str = Field("auto", description=f"distance at validation: {PERCEPTUAL_MEANING}")
    metrics: str = Field("", description=f"further ones at validation, such as dists,niqe: {FURTHER_MEANING}")
    sample_rows: int = Field(4, ge=1, le=16, description="validation images in each sample picture")
    patience: int | None = Field(
        None, ge=1, description="evaluations without a better one that end the run; null: it goes all the way"
    )
    tensorboard: bool = Field(False, description="event files in the run's folder, for `tensorboard --logdir runs`")
    checkpoint_activations: bool = Field(
        False, description="compute the generator's blocks again on the way back: less memory, more time"
    )

    @field_validator("metrics")
    @classmethod
    def _known(cls, request: str) -> str:
        """Name each metric once, in one way."""
        return ",".join(further_names(request))

    @field_validator("perceptual")
    @classmethod
    def _found_everywhere(cls, choice: str) -> str:
        """Name a file so that it means the same in every folder that a process may work in."""
        return choice if choice in PERCEPTUAL_CHOICES else str(expanded(choice).absolute())
