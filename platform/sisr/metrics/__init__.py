"""Image quality measures; each says its protocol."""
