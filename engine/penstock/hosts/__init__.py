"""What drives the engine's coroutines. These modules are the only code of the engine that waits."""
