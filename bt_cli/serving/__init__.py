"""The page and the APIs over an index: Starlette behind uvicorn, and the client that other commands reach it with.

Only `client` is for those without the extra `serve`: it needs the standard library alone.
"""
