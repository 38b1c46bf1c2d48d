"""From the runs of this process to the rows of a history; `recorder` is what runs speak to."""
