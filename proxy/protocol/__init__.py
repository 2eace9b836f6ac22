"""The wire towards clients: bytes in, exchanges out, and back."""
