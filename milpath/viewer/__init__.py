"""The browser app: checks, predicts and shows one uploaded slide or bag of tiles, and then deletes it."""
