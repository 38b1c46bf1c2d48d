"""A history in a file of the machine; `database` is where to begin."""
