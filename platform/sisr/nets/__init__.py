"""Network modules built from plain numbers, one family per file."""
