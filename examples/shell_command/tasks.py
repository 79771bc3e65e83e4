"""A shell script as a handler: any program will do that reads JSON and writes JSON."""

from pathlib import Path

from hasty import command

folder_size = command("folder_size", [str(Path(__file__).with_name("folder_size.sh"))], timeout_s=60)
