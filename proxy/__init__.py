"""proxyd: the web server in front of a Python web application."""

__version__ = "0.1.0"
