"""What relaxed decoders buy and what they pay on a real image model: sweep, record, report, choice."""
