"""Where values are kept: see `penstock.results`, the public face."""
