"""What several test modules use: small caches, references, and faults to inject."""
