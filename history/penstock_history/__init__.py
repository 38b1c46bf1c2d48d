"""What happened, durably: see `penstock.history`, the public face."""
