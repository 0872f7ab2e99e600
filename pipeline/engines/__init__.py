"""Where tasks run: the processes of this machine."""
