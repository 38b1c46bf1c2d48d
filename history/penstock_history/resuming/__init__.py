"""Continuing what was interrupted: where a flow is found again, and what need not be done again."""
