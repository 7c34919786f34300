"""python -m memfs"""

from memfs.cli.main import program

if __name__ == "__main__":
    program()
