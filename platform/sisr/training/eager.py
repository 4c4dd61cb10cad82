"""Optimizers without torch's compiler, whose import costs every process more than a second.

torch asks its compiler to leave optimizers' methods alone, and imports it for that at the first call of each, although
nothing is compiled. Here the import is left out where it has no effect, and done beside other work where it has none
but can't be left out: `Optimizer.step` itself imports it.
"""

import importlib
import threading

from torch.optim import Optimizer

DISABLED = "__dynamo_disable"  # where torch/_compile.py looks for the method that it has shielded from its compiler


def leave_out_compiler() -> None:
    """Let optimizers be built, saved and restored without it. In another torch that keeps it elsewhere: no effect."""
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        method = getattr(getattr(Optimizer, name), "__wrapped__", None)
        if method is not None and not hasattr(method, DISABLED):
            setattr(method, DISABLED, method)


def import_compiler_beside() -> None:
    """Let a thread import it, so that the first step does not wait, or not so long."""
    threading.Thread(target=importlib.import_module, args=("torch._dynamo",), name="import", daemon=True).start()
