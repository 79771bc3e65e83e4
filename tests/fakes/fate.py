"""What a test can have happen to a message or a command."""

from enum import Enum, auto


class Fate(Enum):
    """What becomes of a message that is published, or of a command to a database."""

    STORED = auto()
    LOST = auto()
    """It never arrived, and the sender cannot know."""
    UNANSWERED = auto()
    """It was obeyed, but the answer is lost: the sender cannot know."""
