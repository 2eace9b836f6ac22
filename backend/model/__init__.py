"""Timeline's data and its rules: no Flask, no HTTP, no HTML."""
