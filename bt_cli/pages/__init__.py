"""Results to look at: pages, charts, heat maps and pictures in the terminal. No server."""
