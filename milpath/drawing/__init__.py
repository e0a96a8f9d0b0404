"""Pictures for a person: montage, heat map, frame, bars. NumPy and Pillow only."""
