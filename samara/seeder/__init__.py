"""seeder."""
