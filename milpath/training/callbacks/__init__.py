"""Lightning callbacks: progress, stopping, pictures, predictions of the splits."""
