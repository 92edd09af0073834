"""The live viewer in the browser: faces, model, server, page."""
