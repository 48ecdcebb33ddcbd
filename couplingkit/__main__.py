"""`python -m couplingkit` is the command `couplingkit`."""

from .cli.main import main

if __name__ == "__main__":
    main(prog_name="couplingkit")
