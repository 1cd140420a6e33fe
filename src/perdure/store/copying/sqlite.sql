-- :name tables
SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name

-- :name columns
SELECT name, pk FROM pragma_table_info(?)
