"""The ``issuer`` command. Arguments, exit codes and words for people; everything else is below."""
