"""`python -m rekindle`."""

from rekindle import main

main()
