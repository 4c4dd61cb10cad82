"""One self-contained script per verb; `sisr VERB` runs VERB.py."""
