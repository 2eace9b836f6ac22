"""proxy.toml: its schema, its reader, its errors, its check."""
