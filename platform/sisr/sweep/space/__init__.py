"""Search spaces: domains, their file, and their check against a recipe."""
