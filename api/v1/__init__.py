"""The second HTTP contract, ``/v1``: each route is declared once, next to what it does."""
