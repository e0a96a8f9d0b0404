"""Drawing of montages, heat maps, frames and bars. Needs only NumPy and Pillow."""
