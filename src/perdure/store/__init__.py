"""The store remembers: see `perdure.store.protocol` for what it promises and `perdure.store.sqlite` for one file."""
