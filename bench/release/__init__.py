"""From a record to a release: the synthetic rows of one fit in a file, with a card that tells what protects them."""
