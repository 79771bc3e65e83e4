"""A handler that needs a package of its own."""

from slugify import slugify

from hasty import job


@job
def slug(title: str) -> str:
    """Make a title fit for a URL."""
    return str(slugify(title))
