"""What to do when one step takes more memory than there is."""

import torch

from sisr.training.run import Run
from sisr.training.session import Session


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device's memory is used up; CPUs report it by a plain RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "can't allocate memory" in str(error) or "out of memory" in str(error).lower()


def advice(run: Run, crop: int, examples: int, session: Session) -> str:
    """Return what took too much and a setting that takes half of it.

    Args:
        run: What was executed.
        crop: Side of an hr example in pixels.
        examples: In one worker's micro-batch.
        session: This worker's place.
    """
    peak = ""
    if session.device.type == "cuda":
        peak = f", peak {torch.cuda.max_memory_allocated(session.device) / 2**30:.1f} GiB"
    halved = run.options.accumulate * 2
    proposal = (
        f"--option accumulate={halved} halves it at the same batch" if examples % 2 == 0 else "a smaller batch_size"
    )
    return (
        f"out of memory on {session.device} with {examples} examples of {crop}x{crop} px at a time{peak}: "
        f"{proposal}; a smaller hr_crop or --precision bf16 helps, too"
    )
