"""What proxyd tells about itself: access log, error log."""
