"""Tables of cross-validated methods: comparison, files and page."""
