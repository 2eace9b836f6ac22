"""`proxyd lab`: what each layer in front of a Python application adds, measured on this machine."""
