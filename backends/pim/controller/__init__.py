"""The base-die controller of a stack with computing and dense layers."""
