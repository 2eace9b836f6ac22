"""What a person asks of the cache and of the rules: `proxyd cache …` and `proxyd explain`."""
