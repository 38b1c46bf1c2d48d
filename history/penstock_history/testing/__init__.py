"""The conformance suite for databases that keep a history; `suite` is where to begin."""
