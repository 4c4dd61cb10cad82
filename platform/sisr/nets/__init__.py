"""Network modules built from plain numbers, one architecture per file."""
