"""A generator applied to images of any size: tiles, strips, their memory and their exact seams."""
