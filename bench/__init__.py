"""CPU per request of proxyd beside nginx, on this machine: `make bench`."""
