"""What a notebook or a program calls instead of the command line; nothing is done here that a verb does not do."""
