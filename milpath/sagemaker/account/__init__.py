"""What an account has to allow and to keep: images with an end, and permissions."""
