#!/bin/sh
# A program that holds a secret in its heap, and waits until its standard input ends.
secret=$(printf 'the-secret-is-%s' marlin)
read -r _ || exit 0
echo "$secret"
