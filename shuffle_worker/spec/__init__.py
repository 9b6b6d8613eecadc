"""The ShuffleJob manifest: model, reading, checks, status. No I/O beyond reading the manifest's file; no Arrow."""
