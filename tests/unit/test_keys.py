"""Keys: what a template makes of an input, and what is wrong with some."""

import pytest

from hasty.keys import KeyProblem, fields_of, key_of

NOT_OF_A_KEY = "url is part of the key: it must be a text or a whole number"
FORBIDDEN = "the key must not contain control characters or lone surrogates"


@pytest.mark.parametrize(
    ("template", "values", "key"),
    [
        ("{url}", {"url": "u", "width": 3}, "u"),
        ("{user}/{url}", {"url": "u", "user": 7}, "7/u"),
        ("all", {}, None),
        ("{url!r}", {"url": "u"}, None),
        ("{url:>9}", {"url": "u"}, None),
        ("{0}", {"0": "u"}, None),
    ],
)
def test_template_makes_a_key_of_plain_names(template: str, values: dict[str, object], key: str | None) -> None:
    """Texts and whole numbers; a template with anything else is refused."""
    if key is None:
        with pytest.raises(ValueError, match="the key "):
            fields_of(template)
    else:
        assert key_of(template, values) == key


@pytest.mark.parametrize(
    ("template", "values", "message", "field"),
    [
        ("{url}", {}, NOT_OF_A_KEY, "url"),
        ("{url}", {"url": True}, NOT_OF_A_KEY, "url"),
        (
            "{user}/{url}",
            {"user": "a", "url": 1.5},
            NOT_OF_A_KEY,
            "url",
        ),
        ("{url}", {"url": ""}, "the key must not be empty", "url"),
        ("{url}", {"url": "u" * 257}, "the key must have at most 256 characters, this one has 257", "url"),
        (
            "{user}/{url}",
            {"user": "a", "url": "\n"},
            FORBIDDEN,
            None,
        ),
    ],
)
def test_input_without_a_key_is_refused(
    template: str, values: dict[str, object], message: str, field: str | None
) -> None:
    """With the member that is to blame, where it is a single one."""
    with pytest.raises(KeyProblem) as caught:
        key_of(template, values)

    assert (str(caught.value), caught.value.field) == (message, field)
