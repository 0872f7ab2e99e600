"""Run folders: what training leaves, and how it is found, claimed and read again."""
