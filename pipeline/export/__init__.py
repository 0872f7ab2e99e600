"""A trained head and its trunk → one file that runs without this project."""
