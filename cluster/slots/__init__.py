"""Hash slots: key to slot, ranges of slots, and who answers for a key. Pure functions, no I/O."""
