"""What a person sees: tables with score bars on stdout, progress and remarks on stderr. Formats; decides nothing."""
