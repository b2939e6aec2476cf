"""The command line. The only place that prints, asks, or ends the process."""
