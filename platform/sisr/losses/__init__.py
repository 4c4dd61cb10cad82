"""Pure functions of tensors, one family per file."""
