"""The environments: one file per family. They are plugins and are reached through the entry points `bench.environments` alone."""
