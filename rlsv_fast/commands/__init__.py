"""The work behind each command of the command line; ``cli`` reads their arguments."""
