"""The wire towards upstream servers: groups, pools and connections."""
