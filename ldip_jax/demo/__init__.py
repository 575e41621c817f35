"""The demonstration: its material, its methods and its output."""
