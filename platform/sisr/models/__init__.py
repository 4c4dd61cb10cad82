"""A generator as files: saved, loaded, recognised, trusted, exported."""
