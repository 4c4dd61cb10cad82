"""Strict settings."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of every settings model: frozen, unknown keys forbidden, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
