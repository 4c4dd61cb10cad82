"""The training loop and its parts: torch only; knows no recipe by name."""
