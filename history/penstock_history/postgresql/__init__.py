"""A history that several machines share; `database` is where to begin."""
