"""Results for people and programs: tables, JSON, CSV, Arrow."""
