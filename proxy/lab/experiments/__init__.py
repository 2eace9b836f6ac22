"""The experiments of the lab, each chosen to show what a layer is for."""
