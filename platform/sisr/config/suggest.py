"""Suggestions: the known name nearest to what somebody typed."""

import difflib
import re
from collections.abc import Iterable

# What people type because another program calls it so.
ALIASES = {
    "lr": "learning_rate",
    "lr_g": "learning_rate",
    "lr_d": "discriminator_learning_rate",
    "eta": "learning_rate",
    "bs": "batch_size",
    "batch": "batch_size",
    "num_iters": "steps",
    "iterations": "steps",
    "iters": "steps",
    "max_steps": "steps",
    "total_iter": "steps",
    "sf": "scale",
    "upscale": "scale",
    "factor": "scale",
    "gt_size": "hr_crop",
    "crop_size": "hr_crop",
    "patch_size": "hr_crop",
    "nf": "num_features",
    "nb": "num_blocks",
    "num_layers": "num_blocks",
    "random_seed": "seed",
    "manual_seed": "seed",
    "grad_accum": "accumulate",
    "amp": "precision",
    "fp16": "precision",
    "bf16": "precision",
    "grad_clip": "clip_norm",
    "b1": "beta1",
    "b2": "beta2",
}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name nearest to `name`, or None where none is near."""
    by_form = {_form(word): word for word in known}
    form = _form(name)
    if ALIASES.get(form) in by_form:
        return by_form[ALIASES[form]]
    by_words = {_sorted_words(word): word for word in by_form}
    if _sorted_words(form) in by_words:  # rate_learning
        return by_form[by_words[_sorted_words(form)]]
    found = difflib.get_close_matches(form, by_form, n=1)
    return by_form[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return "did you mean 'X'?" with the nearest known name, or None where none is near."""
    near = nearest(name, known)
    return f"did you mean '{near}'?" if near else None


def _form(name: str) -> str:
    """Return a name without what spelling habits differ in: batchSize, --batch-size and batch_size are one."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[-\s.]+", "_", spaced.lstrip("-")).lower()


def _sorted_words(form: str) -> str:
    return "_".join(sorted(form.split("_")))
