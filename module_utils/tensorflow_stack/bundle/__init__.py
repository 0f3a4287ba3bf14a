"""Fetches what plans need into one directory of static files, and checks such a bundle."""
