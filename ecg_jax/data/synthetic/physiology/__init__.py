"""Patients, rhythms and beats: what the heart does, before a recorder sees it."""
