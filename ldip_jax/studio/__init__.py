"""The page of `ldip studio`: a local server, which runs `ldip upscale` for the user's clip and stills."""
