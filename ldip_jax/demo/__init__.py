"""The demonstration: what it upscales, by which methods, and the folder it leaves."""
