"""Who takes part: accounts, memberships, the links by which people come in, and tokens for their programs."""
