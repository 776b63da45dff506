"""Is a difference real: values paired by question, tested and corrected."""
