"""From records to tables: runs pooled into scores with intervals, rows that may be compared, and every form in which they are printed."""
