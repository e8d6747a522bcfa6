-- The type "char" above 0x7f in UTF-8, which 13 and 14 write as a byte that is no character.
-- @since 15

CREATE TABLE t (id int PRIMARY KEY, c "char", a "char"[]); INSERT INTO t SELECT i, (i - CASE WHEN i > 127 THEN 256 ELSE 0 END)::"char", ARRAY[(i - CASE WHEN i > 127 THEN 256 ELSE 0 END)::"char", 'x'] FROM generate_series(0, 255) i; CREATE INDEX ON t (c);

-- @check every value
SELECT count(*), count(DISTINCT c), sum(c::int), sum(a[1]::int) FROM t
-- @gives
-- 256 | 256 | -128 | -128
