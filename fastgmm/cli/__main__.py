"""`python -m fastgmm.cli`, where the script `fastgmm` is not on the path."""

from . import main

if __name__ == "__main__":
    main()
