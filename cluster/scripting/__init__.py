"""Scripts in Lua: what Redis offers to them, and the sandbox that they run in."""
