"""The store's Python side: its limits, its directories on disk, and the janitor. No frames, no memory here."""
