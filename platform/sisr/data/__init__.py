"""From image files to deterministic batches."""
