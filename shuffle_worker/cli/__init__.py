"""`shufflectl`: the command line. Reads manifests, starts embedded jobs, shows what happens; decides nothing."""
