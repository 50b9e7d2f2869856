"""Connections over HTTP: to addresses that were looked at, within a limit of time, kept open for what is asked next."""
