"""python -m memfs"""

from memfs.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
