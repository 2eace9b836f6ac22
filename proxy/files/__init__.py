"""The files proxyd serves by itself: found safely, kept in memory while small."""
