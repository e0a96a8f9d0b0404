"""A page per slide for a browser: a pyramid of the slide under its attention, without a server."""
