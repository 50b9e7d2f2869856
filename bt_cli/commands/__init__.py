"""The command line: one file a command. A command parses, calls the floors below and shows what they return."""
