"""The page and the APIs over HTTP, tools for assistants, and the client of `--server`."""
