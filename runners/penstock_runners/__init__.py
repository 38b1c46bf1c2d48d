"""Where attempts execute. Users import `penstock.runners`."""
