"""What an update of an index has to do: what lies in its roots now, against what it holds."""
