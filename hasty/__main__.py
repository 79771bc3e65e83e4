"""`python -m hasty`: the command `hasty`, where it is not on the PATH."""

from hasty.cli.app import main

main()
