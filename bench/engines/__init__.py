"""The servers that are measured, each with its configuration for the same work."""
