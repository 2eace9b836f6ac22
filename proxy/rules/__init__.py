"""The rules of HTTP as pure functions: no clock, no sockets, no files."""
