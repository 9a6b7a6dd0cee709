"""May I send now, and when do I poll: rates, adaptive limits, admission, the budget, and the poll schedule."""
