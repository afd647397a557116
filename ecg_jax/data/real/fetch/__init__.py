"""Fetching open data sets from their publishers: licence first, resumed, with checksums."""
