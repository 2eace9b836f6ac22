"""The control process: health, metrics and the admin API over HTTP, by aiohttp."""
