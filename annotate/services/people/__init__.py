"""Who takes part: accounts, memberships, sign-in links, and tokens for their programs."""
