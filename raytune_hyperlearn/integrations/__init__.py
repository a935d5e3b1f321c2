"""Learned schedules inside other training frameworks; each file needs its framework."""
