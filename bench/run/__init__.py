"""From a sweep to records: what is asked, what it takes, what is done, and where the answers are kept."""
