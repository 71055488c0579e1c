"""Whole clusters in virtual time: the engines, unchanged, on a network and disks made of a seed."""
