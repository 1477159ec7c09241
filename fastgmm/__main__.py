"""`python -m fastgmm`, where the script `fastgmm` is not on the path."""

from .cli import main

if __name__ == "__main__":
    main()
