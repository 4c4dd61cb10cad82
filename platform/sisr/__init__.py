"""sisr: a Ray-distributed experiment platform for super-resolution GANs.

`from sisr import train, tune, evaluate, compare, upscale` gives the verbs as functions; nothing is imported before.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sisr.interface.functions import compare as compare
    from sisr.interface.functions import evaluate as evaluate
    from sisr.interface.functions import train as train
    from sisr.interface.functions import tune as tune
    from sisr.interface.functions import upscale as upscale

__version__ = "0.1.0"

_FUNCTIONS = ("train", "tune", "evaluate", "compare", "upscale")


def __getattr__(name: str) -> Any:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module 'sisr' has no attribute '{name}'")
    from sisr.interface import functions

    return getattr(functions, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_FUNCTIONS])
