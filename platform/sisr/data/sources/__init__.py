"""Where images come from; one layout a file.

A layout's file has a function `open_layout(folder)` that returns a `Source`; it is found by its name in `LAYOUTS`.
"""

LAYOUTS = ("celeba", "div2k")  # given as celeba:PATH
ACCEPTED = ", ".join(("demo", "a folder of images", *(f"{name}:PATH" for name in LAYOUTS)))  # for messages and --help
