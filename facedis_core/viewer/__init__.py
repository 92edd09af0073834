"""The live viewer in the browser: model, gallery, server, page."""
