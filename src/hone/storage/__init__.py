"""The database and the disk: tables, migrations, one writer thread, files that appear whole or not at all."""
