"""Binary weights: optimisers that train them, and files that hold one bit a weight."""
