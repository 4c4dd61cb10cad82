"""Strict settings and YAML: from what a user wrote to checked values, or an error that helps."""

from sisr.config.settings import Settings

__all__ = ["Settings"]  # recipes recorded by earlier versions import it from here
