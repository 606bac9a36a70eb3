from issuer.core.nearest import nearest


def test_names_the_nearest_word() -> None:
    assert nearest("audince", ["audience", "scopes"]) == "; did you mean 'audience'?"


def test_says_nothing_when_no_word_is_near() -> None:
    assert nearest("xyzzy", ["audience", "scopes"]) == ""
