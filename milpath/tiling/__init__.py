"""Many slides to one bag store: plan, workers, work folder, merge."""
