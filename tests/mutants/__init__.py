"""Break the code in one place at a time and see that a test notices."""
